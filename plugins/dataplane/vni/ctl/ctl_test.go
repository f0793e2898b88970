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

// app answers every call from the test file and prints as ratchetctl would.
type app struct {
	reply string
	out   strings.Builder
}

var _ App = (*app)(nil)

func (a *app) Invoke(_ context.Context, plugin, method string, request, reply any) error {
	p, err := json.Marshal(request)
	if err != nil {
		return err
	}
	fmt.Fprintf(&a.out, "asked: %s %s %s\n", plugin, method, p)
	if text, refused := strings.CutPrefix(a.reply, "error "); refused {
		return errors.New(text)
	}
	return json.Unmarshal([]byte(a.reply), reply)
}

func (a *app) Print(_ any, columns []string, rows [][]string) error {
	w := tabwriter.NewWriter(&a.out, 0, 0, 2, ' ', 0)
	for _, r := range append([][]string{columns}, rows...) {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

// TestCommands runs testdata/ctl.txt: a command and the plugin's reply; what is asked and shown.
func TestCommands(t *testing.T) {
	datadriven.RunTest(t, "testdata/ctl.txt", func(t *testing.T, d *datadriven.TestData) string {
		a := &app{reply: d.Input}
		root := &cobra.Command{Use: "dataplane", SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(Command(a)...)
		args := []string{d.Cmd}
		for _, more := range d.CmdArgs {
			args = append(args, more.String())
		}
		root.SetArgs(args)
		if err := root.ExecuteContext(t.Context()); err != nil {
			fmt.Fprintln(&a.out, "error:", err)
		}
		var out strings.Builder
		for line := range strings.Lines(a.out.String()) {
			fmt.Fprintln(&out, strings.TrimRight(line, " \n"))
		}
		return out.String()
	})
}
