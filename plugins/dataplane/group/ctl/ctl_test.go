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
	"github.com/spf13/cobra"
)

// fakeApp answers from the test file and prints as ratchetctl would.
type fakeApp struct {
	reply string // to every call
	asked string
	out   strings.Builder
}

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

// TestCommands runs testdata/ctl.txt: a command and the plugin's reply; what is asked and shown.
func TestCommands(t *testing.T) {
	datadriven.RunTest(t, "testdata/ctl.txt", func(t *testing.T, d *datadriven.TestData) string {
		app := &fakeApp{reply: d.Input}
		root := &cobra.Command{Use: "dataplane", SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(Command(app)...)
		args := []string{d.Cmd}
		for _, a := range d.CmdArgs {
			args = append(args, a.String())
		}
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); err != nil {
			fmt.Fprintln(&app.out, "error:", err)
		}
		var out strings.Builder
		out.WriteString(app.asked)
		for line := range strings.SplitSeq(strings.TrimSpace(app.out.String()), "\n") {
			fmt.Fprintln(&out, strings.TrimRight(line, " "))
		}
		return out.String()
	})
}
