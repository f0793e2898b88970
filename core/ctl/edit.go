package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/config"
)

// Commands of plugins that create, change or delete something edit the configuration and have the box apply it: there
// is one place that says what a box does, every change of it moves the counter, and `config show` is always the truth.

// Section decodes a plugin's section of the configuration that the box runs; into stays as it is if there is none.
func (a *App) Section(ctx context.Context, plugin string, into any) error {
	shown, err := a.running(ctx)
	if err != nil {
		return err
	}
	c, _, found := config.Parse(shown.GetName(), shown.GetYaml())
	if c == nil {
		return fmt.Errorf("read the configuration of the box: %s", found)
	}
	section := c.Plugins[plugin].Section
	if len(section) == 0 {
		return nil
	}
	if err := json.Unmarshal(section, into); err != nil {
		return fmt.Errorf("read section plugins.%s of the configuration: %w", plugin, err)
	}
	return nil
}

// Edit changes one thing in a plugin's section and has the box apply the result, unless preview is set: then it is only
// shown. The path is inside the section, as "volumes[1].size"; op is one of package config's. Comments and layout of
// the document stay. The box refuses if somebody else changed its configuration in between.
func (a *App) Edit(ctx context.Context, plugin, op, path string, value any, preview bool) error {
	shown, err := a.running(ctx)
	if err != nil {
		return err
	}
	edit := config.Edit{Op: config.Op(op), Path: "plugins." + plugin + "." + path, Value: value}
	document, err := edit.Apply(shown.GetYaml())
	if err != nil {
		return err
	}
	if preview {
		_, err := a.Out.Write(document)
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	reply, err := c.Config.Apply(ctx, &apipb.ApplyConfigRequest{Name: "appliance.yaml", Yaml: document, Base: shown.GetDigest()})
	if err != nil {
		return err
	}
	return a.findings(reply, reply.GetDiagnostics(), applied(reply, 0))
}

// running is the configuration of the box; it is asked for once a run.
func (a *App) running(ctx context.Context) (*apipb.ShowConfigReply, error) {
	if a.shown != nil {
		return a.shown, nil
	}
	c, err := a.Client()
	if err != nil {
		return nil, err
	}
	if a.shown, err = c.Config.Show(ctx, &apipb.ShowConfigRequest{}); err != nil {
		return nil, err
	}
	if len(a.shown.GetYaml()) == 0 {
		return nil, errors.New("the box has no configuration yet: write one and run ratchetctl config apply FILE")
	}
	return a.shown, nil
}

// Usage makes an error one of the command line.
func (a *App) Usage(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// Host is where the box is reached, for commands that print how others reach it too; "" on the box itself.
func (a *App) Host() (string, error) {
	opts, err := a.target()
	if err != nil {
		return "", err
	}
	return hostOf(opts.Address), nil
}
