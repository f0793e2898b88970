package election

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestElection runs testdata/election.txt: balancers beat every 100 ms and hear each other unless cut off.
//
//	start NAME priority=N [ready]
//	stop|cut|heal NAME
//	ready NAME
//	fault|mend NAME  its interface is gone, or back
//	run MS           steps all and lists who is active and what was announced
func TestElection(t *testing.T) {
	nodes, cut := map[string]*Node{}, map[string]bool{}
	var now time.Duration
	datadriven.RunTest(t, "testdata/election.txt", func(t *testing.T, d *datadriven.TestData) string {
		name := ""
		if len(d.CmdArgs) > 0 {
			name = d.CmdArgs[0].Key
		}
		switch d.Cmd {
		case "start":
			var priority int
			d.ScanArgs(t, "priority", &priority)
			nodes[name] = New(now, name, priority, 100*time.Millisecond)
			nodes[name].SetReady(d.HasArg("ready"))
		case "stop":
			delete(nodes, name)
		case "ready":
			nodes[name].SetReady(true)
		case "fault", "mend":
			nodes[name].SetFault(d.Cmd == "fault")
		case "cut":
			cut[name] = true
		case "heal":
			delete(cut, name)
		case "run":
			var ms int
			fmt.Sscan(name, &ms)
			var out strings.Builder
			names := slices.Sorted(maps.Keys(nodes))
			for end := now + time.Duration(ms)*time.Millisecond; now < end; {
				now += 100 * time.Millisecond
				for _, n := range names {
					before := nodes[n].Self().Active
					active, announce := nodes[n].Step(now)
					if active != before || announce {
						fmt.Fprintf(&out, "%v %s active=%v announce=%v term=%d\n", now, n, active, announce, nodes[n].Self().Term)
					}
					for _, to := range names {
						if to != n && !cut[n] && !cut[to] {
							nodes[to].Heard(now, nodes[n].Self())
						}
					}
				}
			}
			for _, n := range names {
				fmt.Fprintf(&out, "%s: active is %q\n", n, nodes[n].Active(now))
			}
			return out.String()
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		return ""
	})
}
