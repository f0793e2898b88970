package attach

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestMachine runs scripts: `new [epoch=N writer=ID]` takes up a disk, `ask FROM TO`, `open`, `drained [ERROR]`,
// `flushed [ERROR]` and `persisted [ERROR]` move the machine. Every answer ends with whom it admits.
func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		m := new(Machine)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			arg := func(i int) string {
				if i < len(d.CmdArgs) {
					return d.CmdArgs[i].Key
				}
				return ""
			}
			var went error
			if why := arg(0); why != "" && d.Cmd != "ask" {
				went = errors.New(why)
			}
			var step Step
			var err error
			switch d.Cmd {
			case "new":
				var epoch uint64
				var writer string
				if d.HasArg("epoch") {
					d.ScanArgs(t, "epoch", &epoch)
					d.ScanArgs(t, "writer", &writer)
				}
				m = NewMachine(epoch, WriterOf(writer))
			case "ask":
				step, err = m.Ask(arg(0), arg(1))
			case "open":
				step, err = m.Open()
			case "drained":
				step, err = m.Drained(went)
			case "flushed":
				step, err = m.Flushed(went)
			case "persisted":
				step, err = m.Persisted(went)
			default:
				d.Fatalf(t, "unknown command")
			}
			var out strings.Builder
			if err != nil {
				fmt.Fprintln(&out, "error:", err)
			} else if d.Cmd != "new" {
				fmt.Fprintln(&out, step)
			}
			if epoch, _ := m.Next(); step == StepPersist {
				fmt.Fprintln(&out, "keep epoch", epoch)
			}
			epoch, _ := m.Serving()
			fmt.Fprintf(&out, "epoch %d:", epoch)
			for _, id := range []string{"a", "b", "c"} {
				switch err := m.Admits(WriterOf(id)); {
				case err == nil:
					fmt.Fprintf(&out, " %s writes", id)
				case errors.Is(err, ErrHandedOver):
					fmt.Fprintf(&out, " %s shut-down", id)
				case errors.Is(err, ErrNotWriter):
					fmt.Fprintf(&out, " %s no", id)
				}
			}
			return out.String() + "\n"
		})
	})
}
