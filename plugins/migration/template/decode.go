package template

import (
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

const (
	maxName = 64
	maxHook = 32
)

// Decode reads a Template from JSON and returns every mistake in it, each with its path.
func Decode(document []byte) (model.Template, []strict.Issue) {
	var t model.Template
	issues := strict.Decode(document, &t)
	known := map[string]bool{}
	for _, i := range issues {
		known[i.Path] = true
	}
	Check(t, func(path, format string, args ...any) {
		// A value that could not be read is empty now, and what that would mean is no news.
		if !known[path] {
			issues = append(issues, strict.Issue{Path: path, Message: fmt.Sprintf(format, args...)})
		}
	})
	return t, issues
}

// Check looks for what is wrong with the values of a Template.
func Check(t model.Template, errorf func(path, format string, args ...any)) {
	if t.Name != "" && !plain(t.Name, maxName) {
		errorf("name", "%q is not a name; use small letters, digits and dashes, at most %d", t.Name, maxName)
	}
	checkSelector(t.Select, errorf)
	patterns("place.hosts", t.Place.Hosts, errorf)
	for _, list := range []struct {
		path  string
		names []string
	}{{"hooks.before", t.Hooks.Before}, {"hooks.after", t.Hooks.After}} {
		for i, name := range list.names {
			if !plain(name, maxHook) {
				errorf(strict.Index(list.path, i), "%q is not the name of a hook; use small letters, digits and dashes, at most %d. It is a file in the guest, not a command", name, maxHook)
			}
		}
	}
	for _, kind := range []struct{ path, model string }{{"type.cpu", t.Type.CPU}, {"type.nic", t.Type.NIC}, {"type.disk", t.Type.Disk}} {
		// These end up in arguments of QEMU, where a comma begins the next option.
		if strings.ContainsAny(kind.model, ", =\t\n") {
			errorf(kind.path, "%q is not a model; write its name alone", kind.model)
		}
	}
}

func checkSelector(s model.Selector, errorf func(path, format string, args ...any)) {
	if !s.All && len(s.VMs)+len(s.Hosts)+len(s.Labels)+len(s.Types)+len(s.Capabilities) == 0 {
		errorf("select", "nothing narrows it down, so it selects every VM of every host; name some, or write all: true if that is meant")
	}
	patterns("select.vms", s.VMs, errorf)
	patterns("select.except", s.Except, errorf)
	patterns("select.hosts", s.Hosts, errorf)
	for i, c := range s.Capabilities {
		if !capability(c) {
			hint := ""
			if near := strict.Suggest(c, capabilities); near != "" {
				hint = fmt.Sprintf(" (did you mean %q?)", near)
			}
			errorf(strict.Index("select.capabilities", i), "no guest has the capability %q%s; known are %s, driver:MODEL and hook:NAME", c, hint, strings.Join(capabilities, ", "))
		}
	}
}

func patterns(path string, list []string, errorf func(path, format string, args ...any)) {
	for i, p := range list {
		if p == "" {
			errorf(strict.Index(path, i), "an empty name matches nothing; remove it")
		}
	}
}

var capabilities = []string{
	model.CanCPUHotplug, model.CanCPUUnplug, model.CanDIMM, model.CanVirtioMem, model.CanMoveNIC, model.CanMoveDisk, model.CanFreezeAndRun,
}

func capability(name string) bool {
	for _, c := range capabilities {
		if name == c {
			return true
		}
	}
	for _, prefix := range []string{model.CanDriver, model.CanHook} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return true
		}
	}
	return false
}

// plain names can be file names and parts of keys everywhere.
func plain(s string, most int) bool {
	if s == "" || len(s) > most || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
