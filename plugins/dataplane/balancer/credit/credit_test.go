package credit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
)

// TestAccount runs testdata/account.txt. Commands:
//
//	new [synced]
//	report agent=N seq=N [hello] [box=N] [limit=N] [accepted=N]   the balancer's life is 7, its count 100
//	wait MS
func TestAccount(t *testing.T) {
	var a *Account
	var now time.Duration
	datadriven.RunTest(t, "testdata/account.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		switch d.Cmd {
		case "new":
			a, now = &Account{Synced: d.HasArg("synced")}, 0
		case "wait":
			var ms int
			d.ScanArgs(t, "ms", &ms)
			now += time.Duration(ms) * time.Millisecond
		case "report":
			r := report.Report{Balancer: 7}
			c := report.Component{Name: "web", Known: !d.HasArg("hello")}
			d.ScanArgs(t, "agent", &r.Incarnation)
			d.ScanArgs(t, "seq", &r.Sequence)
			if d.HasArg("box") {
				d.ScanArgs(t, "box", &r.Balancer)
			}
			var limit uint64
			if d.HasArg("limit") {
				d.ScanArgs(t, "limit", &limit)
			}
			c.Limit = uint32(limit)
			if d.HasArg("accepted") {
				d.ScanArgs(t, "accepted", &c.Accepted)
			}
			g, v := a.Take(now, &r, c, 7, 100)
			fmt.Fprint(&out, v)
			if v == Apply {
				fmt.Fprintf(&out, " limit=%d accepted=%d", g.Limit, g.Accepted)
			}
			fmt.Fprintln(&out)
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		age, heard := a.Age(now)
		if heard {
			fmt.Fprintf(&out, "limit %d, %v old, fresh %v\n", a.Limit(), age, a.Fresh(now, time.Second))
		} else {
			fmt.Fprintln(&out, "nobody heard")
		}
		return out.String()
	})
}
