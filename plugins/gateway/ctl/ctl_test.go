package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/internal/command/commandtest"
)

// fakeApp answers from the test file, also what the gateway's commands want of ratchetctl besides.
type fakeApp struct {
	commandtest.App
	section string // plugins.gateway of the configuration
	refused string // what the box has against every change of it
}

var _ App = (*fakeApp)(nil)

func (a *fakeApp) Section(_ context.Context, _ string, into any) error {
	return json.Unmarshal([]byte(a.section), into)
}

func (a *fakeApp) Edit(_ context.Context, plugin, op, path string, value any, preview bool) error {
	p, err := json.Marshal(value)
	fmt.Fprintf(&a.Out, "edit: %s %s %s %s preview=%t\n", plugin, op, path, p, preview)
	return err
}

func (a *fakeApp) Try(_ context.Context, plugin, op, path string, value any) error {
	p, err := json.Marshal(value)
	fmt.Fprintf(&a.Asked, "would: %s %s %s %s\n", plugin, op, path, p)
	if a.refused != "" {
		return errors.New(strings.TrimSpace(a.refused))
	}
	return err
}

func (a *fakeApp) Usage(format string, args ...any) error {
	return fmt.Errorf("usage: "+format, args...)
}

func (a *fakeApp) Host() (string, error) { return "192.0.2.7", nil }

// TestCommands runs testdata/ctl.txt: a command, the plugin's reply and, after "=", the section of the configuration,
// after another, what the box has against a change of it; what is asked and shown.
func TestCommands(t *testing.T) {
	datadriven.RunTest(t, "testdata/ctl.txt", func(t *testing.T, d *datadriven.TestData) string {
		app := new(fakeApp)
		app.Reply, app.section, _ = strings.Cut(d.Input, "=\n")
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
			fmt.Fprintln(&app.Out, "error:", err)
		}
		var out strings.Builder
		out.WriteString(app.Asked.String())
		for _, line := range strings.Split(strings.TrimSpace(app.Out.String()), "\n") {
			fmt.Fprintln(&out, strings.TrimRight(line, " "))
		}
		return out.String()
	})
}

// TestNode: QEMU takes the name of a node that is made of a volume's, whatever volume that is.
func TestNode(t *testing.T) {
	for volume, want := range map[string]string{
		"vm-images":             "vm-images",
		"vm-images@SECRET":      "vm-images",
		"1":                     "v-1",
		strings.Repeat("a", 31): strings.Repeat("a", 31),
		"a-name-of-a-volume-as-long-as-they-can-be-host-7": "v-as-long-as-they-can-be-host-7",
	} {
		got := node(volume)
		if got != want {
			t.Errorf("%s is called %s, want %s", volume, got, want)
		}
		qemu := exec.Command("qemu-img", "info", "--image-opts", "driver=null-co,node-name="+got)
		if out, err := qemu.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", got, err, out)
		}
	}
}

// TestCompletion: every command that takes a volume offers those that there are.
func TestCompletion(t *testing.T) {
	app := new(fakeApp)
	app.Reply = `{"volumes": [{"name": "demo", "state": "attached"}]}`
	for path, offered := range commandtest.Completions(t, Command(app)) {
		if !slices.Equal(offered, []string{"demo\tattached"}) {
			t.Errorf("%s offers %q", path, offered)
		}
	}
}
