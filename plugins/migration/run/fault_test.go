package run

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal/journaltest"
)

// cases are moves that faults are tried on.
var cases = []struct {
	name string
	ty   model.VMType
	goal model.Goal
}{
	{"plain", model.VMType{}, model.Goal{}},
	{"shrink", retype, model.Goal{}},
	{"grow", grown, model.Goal{}},
	{"post-copy", model.VMType{}, eager},
}

// fault is what goes wrong in a case: at the n-th call of a host or of the journal's disk.
type fault struct {
	n    int
	host hypervisortest.Fault
	disk error // instead
}

func (f fault) String() string {
	if f.disk != nil {
		return fmt.Sprintf("%v at write %d of the journal", f.disk, f.n)
	}
	return fmt.Sprintf("%s at call %d", f.host, f.n)
}

// result of a case.
type result struct {
	status      Status
	calls, disk int // of the first manager and all after it
	at          string
	wrong       []string
}

// play runs a case with a fault, with as many managers as it takes, and returns how it ended.
func (l *lab) play(f fault) (res result) {
	l.t.Helper()
	away, crashed := "", false
	l.w.Inject(func(c hypervisortest.Call) hypervisortest.Fault {
		n := res.calls
		res.calls++
		if f.disk != nil || n != f.n {
			return hypervisortest.None
		}
		res.at = c.String()
		switch f.host {
		case hypervisortest.HostAway:
			away = c.Host
		case hypervisortest.CrashBefore, hypervisortest.CrashAfter:
			crashed = true
			l.disk.Crash(f.n % 50) // some of what was not synced may be there
		}
		return f.host
	})
	l.disk.Fault = func(call string) error {
		if call != "sync" {
			return nil
		}
		n := res.disk
		res.disk++
		if f.disk == nil || n != f.n {
			return nil
		}
		res.at = call
		if crashed = !errors.Is(f.disk, journaltest.ErrFault); crashed {
			l.w.Crash()
		}
		return f.disk
	}
	open := func() {
		for err := l.open(); err != nil; err = l.open() {
			if f.disk == nil {
				l.t.Fatal(err)
			}
		}
	}
	open()
	if err := l.r.Start(l.plan); err == nil {
		res.status = l.settled()
	} else if l.r.Start(l.plan) == nil { // the operator tries again
		res.status = l.settled()
	}
	for range 3 {
		if crashed {
			crashed = false
			l.r.Close()
			open()
			l.r.Resume()
			res.status = l.settled()
		}
		if away != "" {
			l.w.Back(away)
			away = ""
		}
		if res.status.Held && l.r.Retry(l.plan.ID) == nil {
			res.status = l.settled()
		}
	}
	if err := l.r.Close(); err != nil && f.disk == nil {
		l.t.Errorf("close: %v", err)
	}
	return res
}

// check holds how a case ended against what must be (INVARIANTS M1, M2).
func (l *lab) check(f fault, s Status) (wrong []string) {
	no := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, v := range l.w.Violations() {
		no("%s", v)
	}
	for _, m := range l.w.History() {
		if len(m.Running[vm]) > 1 {
			no("after %s it ran on %v", m.What, m.Running[vm])
		}
	}
	killed := f.disk == nil && (f.host == hypervisortest.KillHere || f.host == hypervisortest.KillThere)
	where, hosts := l.w.Runner(vm), l.w.Hosts(vm)
	want, shape := "", model.Shape{}
	switch s.Outcome {
	case Undone:
		want, shape = "a", l.plan.Before
	case Moved:
		want, shape = "b", l.plan.After
	case Partly:
		want, shape = "b", l.plan.During
	case Lost:
		if !killed {
			no("the VM is lost, and nothing killed it")
		}
	default:
		// What nobody can finish waits for an operator: a VM that was killed where it had its only copy.
		if !(killed && s.Held && s.Committed) && !(s.ID == "" && f.disk != nil) {
			no("it ended as %q, held %t, committed %t: %s", s.Outcome, s.Held, s.Committed, s.Problem)
		}
		return wrong
	}
	if where != want && killed && want == "b" && len(hosts) == 0 {
		return wrong // it was killed after the move had been verified
	}
	if where != want {
		no("%s, and it runs on %q", s.Outcome, where)
	}
	if want == "" || where != want {
		return wrong
	}
	if owner := l.w.Owner(volume); owner != want {
		no("%s, and %s has the volume", s.Outcome, owner)
	}
	if !slices.Equal(hosts, []string{want}) && !s.Owed {
		no("%s, and hosts %v have it", s.Outcome, hosts)
	}
	if now, _ := l.w.Shape(want, vm); s.Outcome != Partly && !plan.Reached(now, shape) {
		no("%s, and its shape is %+v", s.Outcome, now)
	}
	return wrong
}

// TestFaultAnywhere lets every call of a host fail in every way, and every write of the journal, in every kind of move.
// Whatever happens, the VM ends at the source as it was or at the target, and never runs twice.
func TestFaultAnywhere(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			try := func(f fault) (res result) {
				synctest.Test(t, func(t *testing.T) {
					l := newLab(t, c.ty, c.goal)
					res = l.play(f)
					res.wrong = l.check(f, res.status)
				})
				if len(res.wrong) > 0 {
					t.Errorf("%s (%s): %v\n%+v", f, res.at, res.wrong, res.status)
				}
				return res
			}
			clean := try(fault{n: -1})
			if clean.status.Outcome != Moved {
				t.Fatalf("without a fault it ended as %q: %s", clean.status.Outcome, clean.status.Problem)
			}
			tried, outcomes := 0, map[Outcome]int{}
			for n := range clean.calls {
				for _, h := range hypervisortest.Faults() {
					outcomes[try(fault{n: n, host: h}).status.Outcome]++
					tried++
				}
			}
			for n := range clean.disk {
				for _, d := range []error{journaltest.ErrFault, journaltest.ErrCrash, journaltest.ErrCrashAfter} {
					outcomes[try(fault{n: n, disk: d}).status.Outcome]++
					tried++
				}
			}
			t.Logf("%d calls and %d writes, %d faults: %v", clean.calls, clean.disk, tried, outcomes)
		})
	}
}
