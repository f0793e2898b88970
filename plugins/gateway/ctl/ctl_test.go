package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/cockroachdb/datadriven"
)

// fakeApp answers from the test file and prints as ratchetctl would.
type fakeApp struct {
	reply   string // to every call
	section string // plugins.gateway of the configuration
	refused string // what the box has against every change of it
	asked   string
	out     strings.Builder
}

func (a *fakeApp) Section(_ context.Context, _ string, into any) error {
	return json.Unmarshal([]byte(a.section), into)
}

func (a *fakeApp) Edit(_ context.Context, plugin, op, path string, value any, preview bool) error {
	p, err := json.Marshal(value)
	fmt.Fprintf(&a.out, "edit: %s %s %s %s preview=%t\n", plugin, op, path, p, preview)
	return err
}

func (a *fakeApp) Try(_ context.Context, plugin, op, path string, value any) error {
	p, err := json.Marshal(value)
	a.asked += fmt.Sprintf("would: %s %s %s %s\n", plugin, op, path, p)
	if a.refused != "" {
		return errors.New(strings.TrimSpace(a.refused))
	}
	return err
}

func (a *fakeApp) Usage(format string, args ...any) error {
	return fmt.Errorf("usage: "+format, args...)
}

func (a *fakeApp) Host() (string, error) { return "192.0.2.7", nil }

func (a *fakeApp) Invoke(_ context.Context, plugin, method string, request, reply any) error {
	p, err := json.Marshal(request)
	if err != nil {
		return err
	}
	a.asked += fmt.Sprintf("asked: %s %s %s\n", plugin, method, p)
	if text, ok := strings.CutPrefix(a.reply, "error "); ok {
		return errors.New(text)
	}
	return json.Unmarshal([]byte(a.reply), reply)
}

func (a *fakeApp) Print(_ any, columns []string, rows [][]string) error {
	w := tabwriter.NewWriter(&a.out, 0, 0, 2, ' ', 0)
	for _, r := range append([][]string{columns}, rows...) {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

// TestCommands runs testdata/ctl.txt: a command, the plugin's reply and, after "=", the section of the configuration,
// after another, what the box has against a change of it; what is asked and shown.
func TestCommands(t *testing.T) {
	datadriven.RunTest(t, "testdata/ctl.txt", func(t *testing.T, d *datadriven.TestData) string {
		app := new(fakeApp)
		app.reply, app.section, _ = strings.Cut(d.Input, "=\n")
		app.section, app.refused, _ = strings.Cut(app.section, "=\n")
		c := Command(app)
		var args []string
		for _, a := range d.CmdArgs {
			args = append(args, a.String())
		}
		c.SetArgs(args)
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetIn(strings.NewReader("a secret\n"))
		if err := c.ExecuteContext(t.Context()); err != nil {
			fmt.Fprintln(&app.out, "error:", err)
		}
		var out strings.Builder
		out.WriteString(app.asked)
		for _, line := range strings.Split(strings.TrimSpace(app.out.String()), "\n") {
			fmt.Fprintln(&out, strings.TrimRight(line, " "))
		}
		return out.String()
	})
}
