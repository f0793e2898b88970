package hypervisortest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

func vm1() model.Shape {
	return model.Shape{
		Version: model.ShapeVersion, VM: "vm1", Machine: "pc-i440fx-7.2", Accel: "tcg", CPU: model.CPU{Model: "qemu64"},
		VCPUs: 1, MaxVCPUs: 4, Memory: model.Memory{Boot: 256 << 20, Max: 1 << 30, Slots: 4},
		NICs:  []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "lan"}},
		Disks: []model.Disk{{ID: "d0", Model: "virtio-blk-pci", Source: model.Source{Volume: &model.Volume{Name: "v", Server: "unix:/x"}}}},
	}
}

func open(t *testing.T, w *World) (a, b hypervisor.Port) {
	t.Helper()
	pa, err := w.Port("a")
	if err != nil {
		t.Fatal(err)
	}
	pb, err := w.Port("b")
	if err != nil {
		t.Fatal(err)
	}
	return pa, pb
}

func TestWorldIsAPort(t *testing.T) {
	Suite(t, func(t *testing.T) Rig {
		w := NewWorld("a", "b")
		w.Dial = Silent
		s := vm1()
		s.Disks = nil // the suite hands nothing over
		w.Start("a", s)
		r := Rig{SourceName: "a", TargetName: "b", Shape: s, PostCopy: true, Agent: true, Fences: true}
		r.Source, r.Target = open(t, w)
		r.KillTarget = func() { w.Kill("b", "vm1") }
		r.Reopen = func(t *testing.T) (hypervisor.Port, hypervisor.Port) { w.Crash(); return open(t, w) }
		nic := s.NICs[0]
		nic.ID = "n1"
		r.Plugs = []hypervisor.Plug{{VCPU: true}, {NIC: &nic}, {DIMM: &model.DIMM{ID: "m0", Size: 128 << 20}}}
		t.Cleanup(func() {
			if wrong := w.Violations(); len(wrong) > 0 {
				t.Errorf("violations: %v", wrong)
			}
		})
		return r
	})
}

// move drives one as a correct manager would, until an error.
func move(ctx context.Context, w *World, a, b hypervisor.Port, order string) error {
	m := hypervisor.Move{ID: "m1", Epoch: 1, VM: "vm1", Shape: vm1(), From: "a", To: "b"}
	ticket, err := a.Begin(ctx, m)
	if err != nil {
		return err
	}
	arrival, err := b.Prepare(ctx, m, ticket)
	if err != nil {
		return err
	}
	x, err := a.Perform(ctx, m, arrival, hypervisor.Options{})
	if err != nil {
		return err
	}
	for step := range strings.FieldsSeq(order) {
		switch step {
		case "switch":
			err = x.Switchover(ctx)
		case "over":
			_, err = w.Handover(ctx, "v", "a", "b")
		case "back":
			_, err = w.Handover(ctx, "v", "b", "a")
		case "complete":
			err = x.Complete(ctx)
		case "cancel":
			err = x.Cancel(ctx)
		case "run":
			err = b.Finish(ctx, m, true)
		case "discard":
			err = b.Finish(ctx, m, false)
		case "end":
			err = a.Confirm(ctx, m, true)
		case "resume":
			err = a.Confirm(ctx, m, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestWorldSeesWrongManagers: each order that breaks M1 is told apart from those that keep it.
func TestWorldSeesWrongManagers(t *testing.T) {
	for order, want := range map[string]struct {
		runner string
		wrong  string
	}{
		"switch over complete run end":                   {"b", ""},
		"switch cancel discard resume":                   {"a", ""},
		"switch over back cancel discard resume":         {"a", ""},
		"switch over complete back discard resume":       {"a", ""},
		"switch complete run end":                        {"", ""}, // no volume: it stopped at its first write
		"switch over cancel":                             {"", ""},
		"switch over complete run resume":                {"b", "vm1 runs on b and a|vm1 runs on a from a state"},
		"switch over complete back resume run":           {"a", "vm1 runs on a and b|vm1 runs on b from a state"},
		"switch over complete end discard":               {"", "last copy"},
		"switch over complete run back over end discard": {"b", ""},
	} {
		w := NewWorld("a", "b")
		w.Start("a", vm1())
		a, b := open(t, w)
		err := move(t.Context(), w, a, b, order)
		wrong := strings.Join(w.Violations(), "|")
		if got := w.Runner("vm1"); got != want.runner && want.wrong == "" {
			t.Errorf("%s: runs on %q, want %q (%v)", order, got, want.runner, err)
		}
		for part := range strings.SplitSeq(want.wrong, "|") {
			if !strings.Contains(wrong, part) || part == "" && wrong != "" {
				t.Errorf("%s: violations %q, want %q", order, wrong, want.wrong)
			}
		}
	}
}

// TestWorldFaults: each fault at each call shows as an error or not at all, and never as a violation of a manager that
// stops at the first error.
func TestWorldFaults(t *testing.T) {
	for _, f := range Faults() {
		for n := range 9 {
			synctest.Test(t, func(t *testing.T) { faultAt(t, f, n) })
		}
	}
}

func faultAt(t *testing.T, f Fault, n int) {
	w := NewWorld("a", "b")
	w.Start("a", vm1())
	w.Inject(func(c Call) Fault {
		if c.N == n {
			return f
		}
		return None
	})
	a, b := open(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	err := move(ctx, w, a, b, "switch over complete run end")
	cancel()
	if wrong := w.Violations(); len(wrong) > 0 {
		t.Errorf("%s at call %d: %v", f, n, wrong)
	}
	if n < 8 && err == nil && f != KillThere && f != KillHere && f != RunOn {
		t.Errorf("%s at call %d went unnoticed", f, n)
	}
	if (f == CrashBefore || f == CrashAfter) && n < 8 && !errors.Is(err, ErrCrashed) {
		t.Errorf("%s at call %d: %v", f, n, err)
	}
}

// TestWorldConverges: a guest that writes faster than its link never comes to the switch by itself, and does by being
// held back, by a longer gap or by post-copy.
func TestWorldConverges(t *testing.T) {
	start := func(limits hypervisor.Limits) (*World, hypervisor.Transfer) {
		w := NewWorld("a", "b")
		w.Guest = func(string) Behaviour { return Behaviour{Dirty: 160e6, Bandwidth: 100e6} }
		w.Start("a", vm1())
		a, b := open(t, w)
		m := hypervisor.Move{ID: "m", VM: "vm1", Shape: vm1(), From: "a", To: "b"}
		ticket, _ := a.Begin(t.Context(), m)
		arrival, _ := b.Prepare(t.Context(), m, ticket)
		x, err := a.Perform(t.Context(), m, arrival, hypervisor.Options{Limits: limits, PostCopy: true})
		if err != nil {
			t.Fatal(err)
		}
		return w, x
	}
	for name, c := range map[string]struct {
		limits hypervisor.Limits
		want   string
	}{
		"as it is": {hypervisor.Limits{}, active}, "held back": {hypervisor.Limits{Throttle: 90}, switchover},
		"long gap": {hypervisor.Limits{Downtime: 3 * time.Second}, switchover}, "post-copy": {hypervisor.Limits{StopNow: true}, switchover},
	} {
		w, x := start(hypervisor.Limits{})
		w.Advance(time.Second)
		if err := x.Limit(t.Context(), c.limits); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			w.Advance(200 * time.Millisecond)
		}
		p, err := x.Progress(t.Context())
		if err != nil || p.Phase != c.want {
			t.Errorf("%s: %+v, want %s (%v)", name, p, c.want, err)
		}
	}
}

func TestPortEventsEnd(t *testing.T) {
	w := NewWorld("a", "b")
	w.Start("a", vm1())
	a, _ := open(t, w)
	w.Kill("a", "vm1")
	a.Close()
	var names []string
	for e := range a.Events() {
		names = append(names, e.Name)
	}
	if !slices.Equal(names, []string{"GONE"}) || a.Err() == nil {
		t.Errorf("events %v, then %v", names, a.Err())
	}
}
