package config

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw"
)

// Checker knows what a document alone cannot tell.
type Checker struct {
	// Plugins that may be enabled.
	Plugins []string
	// Validate asks a plugin about its section: the Feature itself on a workstation, the
	// plugin's process on the box.
	Validate func(ctx context.Context, name string, section plugin.Section) (plugin.Validation, error)
	// Devices of the box; nil when the document is for another machine, and selectors are
	// then only checked for their form.
	Devices []hw.Device
}

// Features checks with plugins of this process. Describe and Validate have no side effects.
func Features(features []plugin.Feature) Checker {
	byName := map[string]plugin.Feature{}
	var names []string
	for _, f := range features {
		d := f.Describe()
		if d.GetCompanionOf() != "" {
			continue // the plugin whose section it reads checks it
		}
		name := d.GetName()
		byName[name] = f
		names = append(names, name)
	}
	return Checker{
		Plugins: names,
		Validate: func(ctx context.Context, name string, section plugin.Section) (plugin.Validation, error) {
			return byName[name].Validate(ctx, section), nil
		},
	}
}

// validateTime bounds one plugin's answer.
const validateTime = 10 * time.Second

// Load is Parse and Check as one report.
func Load(ctx context.Context, name string, data []byte, checker Checker) (*Config, *Source, Diagnostics) {
	c, src, found := Parse(name, data)
	if c == nil {
		return nil, src, found
	}
	found = append(found, Check(ctx, c, src, checker)...)
	return c, src, found.sorted()
}

// Check asks every enabled plugin about its section, and compares what all of them want
// with each other, with core's own sections and with the hardware. It adds nothing that
// Parse has reported.
func Check(ctx context.Context, c *Config, src *Source, checker Checker) Diagnostics {
	k := &check{src: src, checker: checker}
	names := make([]string, 0, len(c.Plugins))
	for name := range c.Plugins {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		k.plugin(ctx, name, c.Plugins[name])
	}
	if nic := c.Network.Management.NIC; nic != "auto" && selectorForm(nic, "nic") == nil {
		k.claim(claim{by: "the management network", kind: pluginpb.Kind_NIC, selector: nic, path: "network.management.nic"})
	}
	if c.API.Listen != "none" {
		k.claim(claim{by: "the management API", kind: pluginpb.Kind_LISTENER, selector: c.API.Listen, path: "api.listen"})
	}
	k.resolve()
	k.conflicts()
	k.managementLeft(c)
	return k.found.sorted()
}

// check is one pass.
type check struct {
	src     *Source
	checker Checker
	found   Diagnostics
	claims  []claim
}

func (k *check) errorf(path, format string, args ...any) {
	k.found = append(k.found, k.src.at(path, Error, format, args...))
}

func (k *check) plugin(ctx context.Context, name string, p Plugin) {
	at := strict.Join("plugins", name)
	if !slices.Contains(k.checker.Plugins, name) {
		message := fmt.Sprintf("there is no plugin %q; there are %s", name, strings.Join(k.checker.Plugins, ", "))
		if s := strict.Suggest(name, k.checker.Plugins); s != "" {
			message = fmt.Sprintf("there is no plugin %q (did you mean %q?)", name, s)
		}
		k.found = append(k.found, k.src.issue(strict.Issue{Path: at, Message: message, Key: true}))
		return
	}
	if !p.Enabled || k.checker.Validate == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, validateTime)
	defer cancel()
	v, err := k.checker.Validate(ctx, name, plugin.Section{JSON: p.Section})
	if err != nil {
		k.errorf(at, "plugin %s cannot check its section: %v", name, err)
		return
	}
	for _, d := range v.Diagnostics {
		k.found = append(k.found, k.relay(at, d))
	}
	for _, w := range v.Wants {
		k.form(strict.Concat(at, w.GetPath()), w)
		k.claim(claim{by: "plugin " + name, kind: w.GetKind(), selector: w.GetSelector(), path: strict.Concat(at, w.GetPath())})
	}
}

// form looks at a want of which no inventory tells.
func (k *check) form(path string, w plugin.Want) {
	switch w.GetKind() {
	case pluginpb.Kind_LISTENER:
		if _, _, err := ListenAddress(w.GetSelector()); err != nil {
			k.errorf(path, "%v", err)
		}
	case pluginpb.Kind_FILE:
		// The file can come later, and what needs it says so until then.
		if file, ok := strings.CutPrefix(w.GetSelector(), "file:"); ok && k.checker.Devices != nil {
			if _, err := os.Stat(file); err != nil {
				k.found = append(k.found, k.src.at(path, Warning, "%v", err))
			}
		}
	}
}

// relay places a plugin's finding, whose path begins at its section.
func (k *check) relay(at string, d plugin.Diagnostic) Diagnostic {
	out := k.src.issue(strict.Issue{Path: strict.Concat(at, d.GetPath()), Message: d.GetMessage(), Key: d.GetKey()})
	if d.GetSeverity() == pluginpb.Diagnostic_WARNING {
		out.Severity = Warning
	}
	return out
}
