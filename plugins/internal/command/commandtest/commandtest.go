// Package commandtest runs plugins' commands of ratchetctl as text files say.
package commandtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/cockroachdb/datadriven"
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/plugins/internal/command"
)

// App answers every call with the same reply and prints tables as ratchetctl does.
type App struct {
	Reply string          // JSON, or "error " and what the plugin says
	Asked strings.Builder // the calls, a line each
	Out   strings.Builder
}

var _ command.App = (*App)(nil)

// Invoke implements command.App.
func (a *App) Invoke(_ context.Context, plugin, method string, request, reply any) error {
	p, err := json.Marshal(request)
	if err != nil {
		return err
	}
	fmt.Fprintf(&a.Asked, "asked: %s %s %s\n", plugin, method, p)
	if text, refused := strings.CutPrefix(a.Reply, "error "); refused {
		return errors.New(text)
	}
	return json.Unmarshal([]byte(a.Reply), reply)
}

// Print implements command.App.
func (a *App) Print(_ any, columns []string, rows [][]string) error {
	w := tabwriter.NewWriter(&a.Out, 0, 0, 2, ' ', 0)
	for _, r := range append([][]string{columns}, rows...) {
		if len(r) != len(columns) {
			return fmt.Errorf("row %q does not fit columns %q", r, columns)
		}
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

// Run runs a file of commands: of each its line, below it the plugin's reply, and after ---- what is asked and shown.
func Run(t *testing.T, file string, newCommand func(app command.App) *cobra.Command) {
	t.Helper()
	datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
		app := &App{Reply: d.Input}
		root := newCommand(app)
		root.SilenceUsage, root.SilenceErrors = true, true
		root.SetOut(&app.Out)
		root.SetErr(&app.Out)
		args := []string{d.Cmd}
		for _, a := range d.CmdArgs {
			args = append(args, a.String())
		}
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); err != nil {
			fmt.Fprintln(&app.Out, "error:", err)
		}
		var out strings.Builder
		out.WriteString(app.Asked.String())
		for line := range strings.Lines(strings.TrimSpace(app.Out.String())) {
			fmt.Fprintln(&out, strings.TrimRight(line, " \n"))
		}
		return out.String()
	})
}

// Below makes a command of those that hang below it, for Run.
func Below(name string, commands func(app command.App) []*cobra.Command) func(app command.App) *cobra.Command {
	return func(app command.App) *cobra.Command {
		c := &cobra.Command{Use: name}
		c.AddCommand(commands(app)...)
		return c
	}
}

// Completions are what the commands below c offer for their first argument, by the path of the command; those that
// offer nothing are left out.
func Completions(t *testing.T, c *cobra.Command) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, sub := range c.Commands() {
		maps.Copy(all, Completions(t, sub))
	}
	if c.ValidArgsFunction != nil {
		c.SetContext(t.Context())
		all[c.CommandPath()], _ = c.ValidArgsFunction(c, nil, "")
	}
	return all
}
