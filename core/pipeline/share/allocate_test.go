package share

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestAllocate runs testdata/allocate/*. `capacity workers=W [memory=M] [bandwidth=B]` starts anew, `plan` takes a pipeline a
// line:
//
//	NAME [weight=W] [rate=R] [bytes=B] [send=S] [maxmemory=M] [maxsend=S] : STAGE=SECONDS[w][/LIMIT][@IN-OUT] …
//
// w marks a waiting stage, IN and OUT are how full the queues are in percent. `plan again=N` shows what the same
// measurements lead to after N more intervals.
func TestAllocate(t *testing.T) {
	datadriven.Walk(t, "testdata/allocate", func(t *testing.T, path string) {
		var c Capacity
		var last Plan
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "capacity":
				c, last = Capacity{}, Plan{}
				for _, a := range d.CmdArgs {
					*map[string]*float64{"workers": &c.Workers, "memory": &c.Memory, "bandwidth": &c.Bandwidth}[a.Key] = number(t, a.Vals[0])
				}
				return ""
			case "plan":
				names, demands := parseDemands(t, d.Input)
				again := 0
				if d.HasArg("again") {
					d.ScanArgs(t, "again", &again)
				}
				for range again + 1 {
					last = Allocate(c, demands, last)
				}
				return show(names, demands, last)
			}
			t.Fatalf("%s: command %q", d.Pos, d.Cmd)
			return ""
		})
	})
}

func parseDemands(t *testing.T, input string) (names []string, demands []Demand) {
	t.Helper()
	for line := range strings.SplitSeq(input, "\n") {
		head, stages, _ := strings.Cut(line, ":")
		words := strings.Fields(head)
		var d Demand
		for _, w := range words[1:] {
			k, v, _ := strings.Cut(w, "=")
			*map[string]*float64{
				"weight": &d.Weight, "rate": &d.Rate, "bytes": &d.Bytes, "send": &d.Send,
				"maxmemory": &d.MaxMemory, "maxsend": &d.MaxSend,
			}[k] = number(t, v)
		}
		for _, w := range strings.Fields(stages) {
			_, v, _ := strings.Cut(w, "=")
			var s Stage
			v, queues, ok := strings.Cut(v, "@")
			if ok {
				in, out, _ := strings.Cut(queues, "-")
				s.In, s.Out = number(t, in)/100, number(t, out)/100
			}
			v, limit, ok := strings.Cut(v, "/")
			if ok {
				s.Limit = int(number(t, limit))
			}
			v, s.Waits = strings.CutSuffix(v, "w")
			s.Seconds = number(t, v)
			d.Stages = append(d.Stages, s)
		}
		names, demands = append(names, words[0]), append(demands, d)
	}
	return names, demands
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func show(names []string, demands []Demand, p Plan) string {
	var b strings.Builder
	for i, g := range p.Grants {
		fmt.Fprintf(&b, "%s: %.4g/s, workers", names[i], g.Rate)
		for s, n := range g.Workers {
			if demands[i].Stages[s].Waits {
				b.WriteString(" -")
			} else {
				fmt.Fprintf(&b, " %.2f", n)
			}
		}
		if g.Memory > 0 {
			fmt.Fprintf(&b, ", memory %.0f", g.Memory)
		}
		if g.Bandwidth > 0 {
			fmt.Fprintf(&b, ", bandwidth %.0f", g.Bandwidth)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
