package ctl

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/plugin"
)

func (a *App) configCommand() *cobra.Command {
	return group("config", "Check, show and apply the configuration", "",
		"  ratchetctl config check appliance.yaml\n  ratchetctl config apply appliance.yaml --confirm 5m",
		a.configCheck(), a.configShow(), a.configSchema(), a.configApply(), a.configConfirm())
}

// readFile reads a configuration, "-" from the standard input. One byte more than is allowed
// is read, so that the check can say that it is too much.
func (a *App) readFile(name string) ([]byte, error) {
	in := a.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, config.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", name, err)
	}
	return data, nil
}

func (a *App) configCheck() *cobra.Command {
	var box bool
	cmd := &cobra.Command{
		Use: "check FILE", Short: "Find every mistake in a configuration",
		Long: "Find every mistake in a configuration, with line and column. Nothing is changed.\n\n" +
			"Without --box the check is made here and knows nothing about hardware; with it the box\n" +
			"checks against its own NICs and disks. The exit code is 3 when there are errors.",
		Example: "  ratchetctl config check appliance.yaml\n  ratchetctl config check --box appliance.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.readFile(args[0])
			if err != nil {
				return err
			}
			var reply *apipb.CheckConfigReply
			if box {
				c, err := a.Client()
				if err != nil {
					return err
				}
				if reply, err = c.Config.Check(cmd.Context(), &apipb.CheckConfigRequest{Name: args[0], Yaml: data}); err != nil {
					return err
				}
			} else {
				_, _, found := config.Load(cmd.Context(), args[0], data, config.Features(a.Features))
				reply = &apipb.CheckConfigReply{Diagnostics: api.Diagnostics(found)}
			}
			return a.findings(reply, reply.GetDiagnostics(), args[0]+" is right")
		},
	}
	cmd.Flags().BoolVar(&box, "box", false, "let the box check, with its hardware and its plugins")
	return cmd
}

// findings prints the report and makes the exit code of it.
func (a *App) findings(reply any, ds []*apipb.ConfigDiagnostic, good string) error {
	refused := refusal(ds)
	if a.output != "table" {
		if err := a.show(reply, nil); err != nil {
			return err
		}
	} else {
		for _, d := range ds {
			fmt.Fprint(a.Err, d.GetText())
		}
		if refused == nil {
			fmt.Fprintln(a.Out, good)
		}
	}
	return refused
}

// refusal is nil when there is no error among the findings.
func refusal(ds []*apipb.ConfigDiagnostic) error {
	failed := 0
	for _, d := range ds {
		if d.GetSeverity() == string(config.Error) {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	noun := "error"
	if failed > 1 {
		noun = "errors"
	}
	return &exit{ExitConfig, fmt.Errorf("the configuration has %d %s", failed, noun)}
}

func (a *App) configShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the configuration the box runs",
		Long:    "Show the configuration the box runs, as it was written. It may hold keys of object stores:\nthe role operator is needed.",
		Example: "  ratchetctl config show > appliance.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Config.Show(cmd.Context(), &apipb.ShowConfigRequest{})
			if err != nil {
				return err
			}
			if a.output != "json" { // the document is YAML already
				_, err = a.Out.Write(reply.GetYaml())
				return err
			}
			return a.show(map[string]string{
				"name": reply.GetName(), "digest": reply.GetDigest(), "yaml": string(reply.GetYaml()),
			}, nil)
		},
	}
}

func (a *App) configSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of a configuration, for editors",
		Example: "  ratchetctl config schema > appliance.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := Schema(a)
			if err != nil {
				return err
			}
			_, err = a.Out.Write(schema)
			return err
		},
	}
}

// Schema is the JSON Schema of a configuration with the sections of the app's features.
func Schema(a *App) ([]byte, error) {
	sections := map[string]string{}
	for _, f := range a.Features {
		d := f.Describe()
		if d.GetCompanionOf() != "" {
			continue // has no section of its own
		}
		sections[d.GetName()] = plugin.SchemaOf(f)
	}
	return config.SchemaDocument(sections)
}

func (a *App) configApply() *cobra.Command {
	var confirm time.Duration
	cmd := &cobra.Command{
		Use: "apply FILE", Short: "Check a configuration and make the box run it",
		Long: "Check a configuration and make the box run it. Only what changed is touched. A configuration\n" +
			"with errors changes nothing and exits with 3. Every apply moves the secure counter.\n\n" +
			"With --confirm the box goes back to the old configuration unless \"ratchetctl config confirm\"\n" +
			"arrives in time: use it when the management network changes.",
		Example: "  ratchetctl config apply appliance.yaml\n  ratchetctl config apply --confirm 5m appliance.yaml && ratchetctl config confirm",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if confirm < 0 {
				return usage(fmt.Errorf("--confirm %s is negative", confirm))
			}
			data, err := a.readFile(args[0])
			if err != nil {
				return err
			}
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Config.Apply(cmd.Context(), &apipb.ApplyConfigRequest{Name: args[0], Yaml: data, ConfirmMs: confirm.Milliseconds()})
			if err != nil {
				return err
			}
			return a.findings(reply, reply.GetDiagnostics(), applied(reply, confirm))
		},
	}
	cmd.Flags().DurationVar(&confirm, "confirm", 0, "go back after this time unless confirmed")
	return cmd
}

func applied(r *apipb.ApplyConfigReply, confirm time.Duration) string {
	if !r.GetApplied() {
		return "nothing to do: the box runs this configuration already"
	}
	changed := strings.Join(r.GetChanged(), ", ")
	if changed == "" {
		changed = "nothing but its text"
	}
	text, later := "applied; changed: "+changed, "when core starts again" // on a workstation, which has neither counter nor boot
	if n := r.GetCounter(); n > 0 {
		text, later = fmt.Sprintf("%s; counter %d", text, n), "at the next boot: ratchetctl power reboot"
	}
	if r.GetRebootNeeded() {
		text += "\npart of it takes effect " + later
	}
	if confirm > 0 {
		text += fmt.Sprintf("\ngoes back in %s unless you run: ratchetctl config confirm", confirm)
	}
	return text
}

func (a *App) configConfirm() *cobra.Command {
	return &cobra.Command{
		Use: "confirm", Short: "Keep a configuration that was applied with --confirm",
		Example: "  ratchetctl config confirm",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			if _, err := c.Config.Confirm(cmd.Context(), &apipb.ConfirmConfigRequest{}); err != nil {
				return err
			}
			a.say("confirmed")
			return nil
		},
	}
}
