package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/run/policy"
)

// TestController reads the scripts in testdata. A line of a script:
//
//	goal [gap=D] [deadline=D] [bandwidth=N] [share=N] [throttle] [post-copy] [rest=N] [at-once] [one-pass] [held]
//	see [at=D] [phase=P] [sent=N] [left=N] [dirty=N] [rate=N] [pass=N]    (MB and MB/s)
//	grant bandwidth=N
func TestController(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var c *policy.Controller
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "goal":
				g := policy.Goal{
					Gap: duration(t, d, "gap", 300*time.Millisecond), Deadline: duration(t, d, "deadline", 0), Bandwidth: uint64(megabytes(d, "bandwidth")), Share: uint64(megabytes(d, "share")),
					Throttle: d.HasArg("throttle"), PostCopy: d.HasArg("post-copy"), AtOnce: d.HasArg("at-once"), OnePass: d.HasArg("one-pass"), Rest: uint64(megabytes(d, "rest")), Held: d.HasArg("held"),
				}
				c = policy.New(g)
				o := c.Start()
				return fmt.Sprintf("%s, post-copy ready: %t\n", limits(o.Limits), o.PostCopy)
			case "see":
				p := hypervisor.Progress{
					Phase: "active", Transferred: uint64(megabytes(d, "sent")), Remaining: uint64(megabytes(d, "left")),
					DirtyRate: megabytes(d, "dirty"), Bandwidth: megabytes(d, "rate"), Problem: "it broke",
				}
				if phase := value(d, "phase"); phase != "" {
					p.Phase = phase
				}
				fmt.Sscan(value(d, "pass"), &p.Passes)
				return decision(c.Observe(duration(t, d, "at", 0), p))
			case "grant":
				return decision(c.Bandwidth(uint64(megabytes(d, "bandwidth"))))
			}
			d.Fatalf(t, "unknown command")
			return ""
		})
	})
}

// value is that of an argument, "" without one.
func value(d *datadriven.TestData, name string) string {
	for _, arg := range d.CmdArgs {
		if arg.Key == name && len(arg.Vals) > 0 {
			return arg.Vals[0]
		}
	}
	return ""
}

func duration(t *testing.T, d *datadriven.TestData, name string, otherwise time.Duration) time.Duration {
	s := value(d, name)
	if s == "" {
		return otherwise
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return v
}

func megabytes(d *datadriven.TestData, name string) (bytes float64) {
	fmt.Sscan(value(d, name), &bytes)
	return bytes * 1e6
}

func limits(l hypervisor.Limits) string {
	var s strings.Builder
	fmt.Fprintf(&s, "bandwidth %d MB/s, gap %s", l.Bandwidth/1e6, l.Downtime)
	if l.Throttle > 0 {
		fmt.Fprintf(&s, ", throttle %d %%", l.Throttle)
	}
	if l.StopNow {
		fmt.Fprintf(&s, ", stop now, the rest at %d MB/s", l.Rest/1e6)
	}
	return s.String()
}

func decision(d policy.Decision) string {
	switch {
	case d.GiveUp != "":
		return "give up: " + d.GiveUp + "\n"
	case d.Limits != nil:
		return limits(*d.Limits) + "\n(" + d.Why + ")\n"
	}
	return "go on\n"
}
