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
// shown, with what the box has against it. The path is inside the section, as "volumes[1].size"; op is one of package
// config's. Comments and layout of the document stay. The box refuses if somebody else changed its configuration in
// between.
func (a *App) Edit(ctx context.Context, plugin, op, path string, value any, preview bool) error {
	document, shown, err := a.edited(ctx, plugin, op, path, value)
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	if preview {
		if _, err := a.Out.Write(document); err != nil {
			return err
		}
		reply, err := c.Config.Check(ctx, &apipb.CheckConfigRequest{Name: editName, Yaml: document})
		if err != nil {
			return err
		}
		for _, d := range reply.GetDiagnostics() {
			fmt.Fprint(a.Err, d.GetText())
		}
		return refusal(reply.GetDiagnostics())
	}
	reply, err := c.Config.Apply(ctx, &apipb.ApplyConfigRequest{Name: editName, Yaml: document, Base: shown.GetDigest()})
	if err != nil {
		return err
	}
	return a.findings(reply, reply.GetDiagnostics(), applied(reply, 0))
}

// Try asks the box whether it would take the same Edit now, for a command that does something first which cannot be
// undone. It changes nothing. Its error is the one that Edit would end with.
func (a *App) Try(ctx context.Context, plugin, op, path string, value any) error {
	document, shown, err := a.edited(ctx, plugin, op, path, value)
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	reply, err := c.Config.Check(ctx, &apipb.CheckConfigRequest{Name: editName, Yaml: document})
	if err != nil {
		return err
	}
	if refusal(reply.GetDiagnostics()) != nil {
		return a.findings(reply, reply.GetDiagnostics(), "")
	}
	now, err := c.Config.Show(ctx, &apipb.ShowConfigRequest{})
	if err == nil && now.GetDigest() != shown.GetDigest() {
		err = errors.New("the configuration was changed meanwhile; look at it and try again")
	}
	return err
}

// editName is what findings call the document of the box.
const editName = "appliance.yaml"

// edited is the document of the box with one thing changed, and the one that it was made from.
func (a *App) edited(ctx context.Context, plugin, op, path string, value any) ([]byte, *apipb.ShowConfigReply, error) {
	shown, err := a.running(ctx)
	if err != nil {
		return nil, nil, err
	}
	edit := config.Edit{Op: config.Op(op), Path: "plugins." + plugin + "." + path, Value: value}
	document, err := edit.Apply(shown.GetYaml())
	return document, shown, err
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
