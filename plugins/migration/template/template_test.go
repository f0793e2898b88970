package template

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"pgregory.net/rapid"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

// TestExpand reads templates in JSON and shows what comes of them in the world of fixture_test.go. An argument changes
// that world: silent=VM has no agent, settled=VM is on rack3.
func TestExpand(t *testing.T) {
	datadriven.RunTest(t, "testdata/expand.txt", func(t *testing.T, d *datadriven.TestData) string {
		tmpl, issues := Decode([]byte(d.Input))
		if len(issues) > 0 {
			var b strings.Builder
			for _, i := range issues {
				fmt.Fprintln(&b, i)
			}
			return b.String()
		}
		inv := world()
		for i := range inv.VMs {
			vm := &inv.VMs[i]
			if d.HasArg("silent") && vm.Name == d.CmdArgs[0].Vals[0] {
				vm.Guest = nil
			}
			if d.HasArg("settled") && vm.Name == d.CmdArgs[0].Vals[0] {
				vm.Host = "rack3"
			}
		}
		e, err := Expand(tmpl, inv, "run")
		if err != nil {
			return err.Error() + "\n"
		}
		for _, p := range e.Moves() {
			if err := p.Validate(); err != nil {
				t.Error(err)
			}
		}
		return e.Text()
	})
}

// TestRoomIsBooked: whatever is asked, no host is given more than it has, and nobody comes to be where he was.
func TestRoomIsBooked(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		inv := world()
		tmpl := model.Template{
			Version: 1, Name: "t", Select: model.Selector{All: true},
			Type: model.VMType{VCPUs: rapid.IntRange(0, 4).Draw(rt, "vcpus"), Memory: strict.Size(rapid.Int64Range(512, 1536).Draw(rt, "memory") * mib)},
			Place: model.Placement{
				Policy: rapid.SampledFrom([]string{"", "spread", "pack"}).Draw(rt, "policy"), MaxPerHost: rapid.IntRange(0, 4).Draw(rt, "most"),
				KeepVCPUs: rapid.IntRange(0, 20).Draw(rt, "keep vcpus"), KeepMemory: strict.Size(rapid.Int64Range(0, 4).Draw(rt, "keep memory") << 30),
			},
		}
		e, err := Expand(tmpl, inv, "run")
		if err != nil {
			rt.Fatal(err)
		}
		moves := e.Moves()
		if len(moves)+len(e.Refused)+len(e.Done) != e.Selected {
			rt.Fatalf("of %d VMs %d go, %d are refused and %d stay", e.Selected, len(moves), len(e.Refused), len(e.Done))
		}
		for _, h := range inv.Hosts {
			var vcpus, count int
			var memory uint64
			for _, p := range moves {
				if p.From == p.To {
					rt.Fatalf("%s goes to where it is", p.VM)
				}
				if p.To == h.Name {
					vcpus, memory, count = vcpus+p.After.VCPUs, memory+p.After.Memory.Total(), count+1
				}
			}
			if count > 0 && (vcpus+tmpl.Place.KeepVCPUs > h.FreeVCPUs || memory+uint64(tmpl.Place.KeepMemory) > h.FreeMemory) {
				rt.Fatalf("%s is given %d vCPUs and %d bytes", h.Name, vcpus, memory)
			}
			if most := tmpl.Place.MaxPerHost; most > 0 && count > most {
				rt.Fatalf("%s is given %d VMs", h.Name, count)
			}
		}
	})
}

func TestSelect(t *testing.T) {
	for _, c := range []struct {
		name string
		s    model.Selector
		want string
	}{
		{"by name", model.Selector{VMs: []string{"web-?"}}, "web-1 web-2 web-3 web-4"},
		{"but", model.Selector{VMs: []string{"*-1", "*-2"}, Except: []string{"db*"}}, "web-1 web-2"},
		{"by host", model.Selector{Hosts: []string{"rack2"}}, "db-1 db-2"},
		{"by label", model.Selector{Labels: map[string]string{"tier": "b*", "site": "a"}}, "db-1 db-2"},
		{"by a label it lacks", model.Selector{Labels: map[string]string{"site": "*"}}, "db-1 db-2"},
		{"by type", model.Selector{Types: []string{"small"}}, ""},
		{"by capability", model.Selector{Capabilities: []string{"driver:e1000"}, VMs: []string{"db-1"}}, "db-1"},
		{"by a capability none has", model.Selector{Capabilities: []string{"hook:x"}}, ""},
		{"all", model.Selector{All: true}, "db-1 db-2 web-1 web-2 web-3 web-4"},
	} {
		var got []string
		for _, vm := range Select(c.s, world().VMs) {
			got = append(got, vm.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

// TestMatch holds the pattern matcher against one that tries everything.
func TestMatch(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pattern := rapid.StringMatching(`[ab*?]{0,8}`).Draw(rt, "pattern")
		name := rapid.StringMatching(`[ab]{0,8}`).Draw(rt, "name")
		if got, want := match(pattern, name), matchSlowly(pattern, name); got != want {
			rt.Errorf("%q matches %q: %t, want %t", pattern, name, got, want)
		}
	})
}

func matchSlowly(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return matchSlowly(pattern[1:], name) || name != "" && matchSlowly(pattern, name[1:])
	case name == "" || pattern[0] != '?' && pattern[0] != name[0]:
		return false
	}
	return matchSlowly(pattern[1:], name[1:])
}

// TestRollout carries out rollouts step by step. `new` makes one, `tell` says what has become of moves at a second, `ask`
// shows what is next then.
func TestRollout(t *testing.T) {
	var r Rollout
	var results map[string]Result
	at := func(d *datadriven.TestData) time.Time {
		var s int
		argument(t, d, "at", &s)
		return time.Unix(int64(s), 0)
	}
	datadriven.RunTest(t, "testdata/rollout.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "new":
			var pause int
			r, results = Rollout{Canary: d.HasArg("canary")}, map[string]Result{}
			argument(t, d, "allowed", &r.Allowed)
			argument(t, d, "pause", &pause)
			r.Pause = time.Duration(pause) * time.Second
			for line := range strings.Lines(d.Input) {
				r.Waves = append(r.Waves, strings.Fields(line))
			}
			return ""
		case "tell":
			for line := range strings.Lines(d.Input) {
				id, state, _ := strings.Cut(strings.TrimSpace(line), " ")
				results[id] = Result{State: State(state), Ended: at(d)}
			}
			return ""
		}
		n := r.Next(results, at(d))
		switch {
		case n.Stopped != "":
			return fmt.Sprintf("stopped: %s (done: %t)\n", n.Stopped, n.Done)
		case n.Done:
			return "done\n"
		case len(n.Start) > 0:
			return "start " + strings.Join(n.Start, " ") + "\n"
		case !n.Until.IsZero():
			return fmt.Sprintf("wait until %d\n", n.Until.Unix())
		}
		return "wait for a move to end\n"
	})
}

// TestRolloutOf takes the order and the budget from a template.
func TestRolloutOf(t *testing.T) {
	tmpl := model.Template{Version: 1, Name: "t", Select: model.Selector{All: true}, Waves: model.Waves{Canary: 1, Size: 2}, Failures: model.Failures{Max: 1, Percent: 34}}
	e, err := Expand(tmpl, world(), "run")
	if err != nil {
		t.Fatal(err)
	}
	r := e.Rollout(tmpl)
	if got := fmt.Sprint(r.Waves, r.Canary, r.Allowed); got != "[[run-1] [run-2 run-3] [run-4 run-5] [run-6]] true 2" {
		t.Error(got)
	}
	if len(Expansion{}.Rollout(tmpl).Waves) != 0 || !(Rollout{}).Next(nil, time.Time{}).Done {
		t.Error("a rollout of nothing is not done")
	}
}

// TestFromAgents: the draft says what can be had in all guests, and what it says can be planned.
func TestFromAgents(t *testing.T) {
	inv := world()
	inv.VMs[4].Guest = nil                        // db-1 has no agent
	inv.VMs[5].Guest.Can[0].State = model.Missing // db-2 cannot gain vCPUs
	inv.VMs[1].Shape.MaxVCPUs = 2
	datadriven.RunTest(t, "testdata/agents.txt", func(t *testing.T, d *datadriven.TestData) string {
		var only string
		argument(t, d, "vms", &only)
		draft, err := FromAgents("draft", Select(model.Selector{VMs: []string{only}}, inv.VMs))
		if err != nil {
			return err.Error() + "\n"
		}
		for _, s := range draft.Changes {
			for _, vm := range Select(draft.Template.Select, inv.VMs) {
				var typ model.VMType
				if issues := strict.Decode(fmt.Appendf(nil, `{%q: %s}`, s.Key, jsonOf(s.Value)), &typ); len(issues) > 0 {
					t.Fatalf("%+v: %v", s, issues)
				}
				_, reasons := plan.Make(plan.Input{Shape: vm.Shape, Type: typ, Source: host(vm.Host, 8), Target: host("other", 8), Guest: vm.Guest})
				if len(reasons) > 0 {
					t.Errorf("%s: %s cannot become %s: %v", vm.Name, s.Key, s.Value, reasons)
				}
			}
		}
		return Render(draft)
	})
}

func jsonOf(value string) string {
	if strings.Trim(value, "0123456789") == "" {
		return value
	}
	return fmt.Sprintf("%q", value)
}

// argument reads one that may be left out.
func argument(t *testing.T, d *datadriven.TestData, key string, into any) {
	if d.HasArg(key) {
		d.ScanArgs(t, key, into)
	}
}
