package supervise

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestMachine runs the scripts in testdata. Each block's command is the policy or a run of
// steps; every input line is "<seconds> <input> [why]", every output line shows the actions
// and the state they leave behind. `go test -rewrite` writes the outputs.
func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		start := time.Unix(0, 0)
		var m *Machine
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			switch d.Cmd {
			case "new":
				p := Policy{Spare: d.HasArg("spare"), Silence: 5 * time.Second, Watchdog: 10 * time.Second}
				if d.HasArg("burst") {
					d.ScanArgs(t, "burst", &p.Burst)
				}
				m = New(p, start)
			case "step":
				for line := range strings.Lines(d.Input) {
					var at float64
					var name string
					if _, err := fmt.Sscan(line, &at, &name); err != nil {
						d.Fatalf(t, "parse %q: %v", line, err)
					}
					_, why, _ := strings.Cut(strings.TrimSpace(line), name)
					now := start.Add(time.Duration(at * float64(time.Second)))
					acts := m.Step(now, Input{Kind: kind(t, name), Why: strings.TrimSpace(why)})
					fmt.Fprintf(&out, "%s %s -> %v", trim(at), name, acts)
					fmt.Fprintf(&out, " %s restarts=%d", m.State(), m.Restarts())
					if dl := m.Deadline(); !dl.IsZero() {
						fmt.Fprintf(&out, " deadline=%s", trim(dl.Sub(start).Seconds()))
					}
					if m.Message() != "" {
						fmt.Fprintf(&out, " %q", m.Message())
					}
					out.WriteByte('\n')
				}
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			return out.String()
		})
	})
}

func trim(s float64) string { return fmt.Sprintf("%gs", s) }

func kind(t *testing.T, name string) Kind {
	t.Helper()
	kinds := map[string]Kind{
		"enable": Enable, "disable": Disable, "restart": Restart, "isolate": Isolate,
		"refuse": Refuse, "started": Started, "exited": Exited, "healthy": Healthy,
		"unwell": Unwell, "broken": Broken, "beat": Beat, "pet": Pet, "spare-up": SpareUp,
		"spare-down": SpareDown, "tick": Tick,
	}
	k, ok := kinds[name]
	if !ok {
		t.Fatalf("unknown input %q", name)
	}
	return k
}

func TestDelay(t *testing.T) {
	p := Policy{}.WithDefaults()
	var got []string
	for n := range 15 {
		got = append(got, p.Delay(n).String())
	}
	want := "0s 0s 0s 0s 100ms 200ms 400ms 800ms 1.6s 3.2s 6.4s 12.8s 25.6s 30s 30s"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("delays\n got %s\nwant %s", s, want)
	}
}

// TestRefused: nobody waits for a next try of one whose killed process does not end, until it has ended after all.
func TestRefused(t *testing.T) {
	now := time.Unix(0, 0)
	m := New(Policy{}, now)
	for _, s := range []struct {
		in   Kind
		want bool
	}{{Enable, false}, {Started, false}, {Broken, false}, {Tick, true}, {Restart, true}, {Exited, false}} {
		m.Step(now, Input{Kind: s.in})
		if got := m.Refused(); got != s.want {
			t.Errorf("%v: %s, refused %v", s.in, m.State(), got)
		}
		if d := m.Deadline(); s.in == Broken {
			now = d
		}
	}
}

// TestOneProcess feeds random inputs and checks what must always hold: never two active
// processes at once, and no deadline that has passed without an action or a later deadline.
func TestOneProcess(t *testing.T) {
	for seed := uint64(1); seed <= 500; seed++ {
		rnd := seed * 0x9e3779b97f4a7c15
		next := func(n uint64) uint64 {
			rnd ^= rnd << 13
			rnd ^= rnd >> 7
			rnd ^= rnd << 17
			return rnd % n
		}
		now := time.Unix(0, 0)
		m := New(Policy{Spare: seed%2 == 0}, now)
		active, spares, isolated := 0, 0, false
		stopped, killed := false, false // the active process was told to
		for range 200 {
			now = now.Add(time.Duration(next(2000)) * time.Millisecond)
			in := Input{Kind: Kind(next(uint64(Tick) + 1))}
			switch in.Kind {
			case Exited, Started: // only a process that exists can do that
				if active == 0 {
					continue
				}
			case SpareUp, SpareDown:
				if spares == 0 {
					continue
				}
			}
			if in.Kind == Exited {
				active--
			}
			if in.Kind == SpareDown {
				spares--
			}
			isolated = isolated || in.Kind == Isolate
			for _, a := range m.Step(now, in) {
				if isolated && (a == Spawn || a == Promote || a == SpawnSpare) {
					t.Fatalf("seed %d: %s while isolated", seed, a)
				}
				switch a {
				case Spawn:
					active++
					stopped, killed = false, false
				case Promote:
					active++
					spares--
					stopped, killed = false, false
				case SpawnSpare:
					spares++
				case Stop, Kill:
					if a == Stop && m.State() == Isolated {
						t.Fatalf("seed %d: isolated hardware is drained", seed)
					}
					if active != 1 {
						t.Fatalf("seed %d: %s with %d active processes", seed, a, active)
					}
					if killed || a == Stop && stopped {
						t.Fatalf("seed %d: %s twice, or after kill", seed, a)
					}
					stopped, killed = stopped || a == Stop, a == Kill
				}
			}
			if d := m.Deadline(); in.Kind == Tick && !d.IsZero() && !d.After(now) {
				t.Fatalf("seed %d: at %s a tick leaves the deadline %s, in %s", seed, now, d, m.State())
			}
			if active > 1 || active < 0 || spares > 1 || spares < 0 {
				t.Fatalf("seed %d: %d active processes and %d spares", seed, active, spares)
			}
			if m.State().Serving() && active != 1 {
				t.Fatalf("seed %d: %s without a process", seed, m.State())
			}
		}
	}
}
