package run

import (
	"errors"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal/journaltest"
)

// TestCancelWhileItIsJournalled cancels a move while its plan is written to the disk: it is undone as soon as that is done.
func TestCancelWhileItIsJournalled(t *testing.T) {
	in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
		once := sync.OnceFunc(func() {
			if err := l.r.Cancel(l.plan.ID); err != nil {
				t.Error(err)
			}
		})
		l.disk.Fault = func(call string) error {
			if call == "sync" {
				once()
			}
			return nil
		}
		l.start()
		if s := l.settled(); s.Outcome != Undone || s.Problem != errCancelled.Error() || l.w.Runner(vm) != "a" {
			t.Errorf("it runs on %q: %+v", l.w.Runner(vm), s)
		}
	})
}

// failCommit lets the disk fail from the commit on, so that the record may be on it or not; meanwhile is called just then.
func (l *lab) failCommit(meanwhile func()) {
	switched, failed := false, false
	l.w.Inject(func(c hypervisortest.Call) hypervisortest.Fault {
		switched = switched || c.Name == "Transfer.Complete"
		return hypervisortest.None
	})
	l.disk.Fault = func(call string) error {
		if !switched || call == "write" && !failed {
			return nil
		}
		if !failed {
			failed = true
			meanwhile()
		}
		return journaltest.ErrFault
	}
}

// failSalvage is failCommit for the commit of a move whose undo finds the source dead and the destination complete.
func (l *lab) failSalvage() {
	completed, dead := false, false
	l.w.Inject(func(c hypervisortest.Call) hypervisortest.Fault {
		switch {
		case c.Name == "Transfer.Complete":
			completed = true
			return hypervisortest.FailAfter
		case completed && !dead && c.Name == "Status" && c.Host == "a":
			dead = true
			return hypervisortest.KillHere
		}
		return hypervisortest.None
	})
	l.disk.Fault = func(call string) error {
		if !dead || call == "write" {
			return nil
		}
		return journaltest.ErrFault
	}
}

// TestUncertainCommit lets an operator give orders for a move of which nobody knows whether it is committed: the VM stands
// still until the next manager has read the journal, and goes where that says (invariant M1).
func TestUncertainCommit(t *testing.T) {
	for _, c := range []struct {
		name  string
		order func(r *Runner, id string) error
		fail  func(l *lab)
		lost  Outcome // when the record turns out not to be on the disk
	}{
		{"retry", (*Runner).Retry, func(l *lab) { l.failCommit(func() {}) }, Undone},
		{"cancel", (*Runner).Cancel, func(l *lab) { l.failCommit(func() {}) }, Undone},
		{"cancelled meanwhile", (*Runner).Retry, func(l *lab) {
			l.failCommit(func() {
				if err := l.r.Cancel(l.plan.ID); err != nil {
					l.t.Error(err)
				}
			})
		}, Undone},
		{"retry, the source dead", (*Runner).Retry, (*lab).failSalvage, Moved},
	} {
		for where, want := range map[string]Outcome{"on the disk": Moved, "not on it": c.lost} {
			t.Run(c.name+", "+where, func(t *testing.T) {
				in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
					c.fail(l)
					l.start()
					held := l.settled()
					if err := c.order(l.r, l.plan.ID); !errors.Is(err, errPerhaps) {
						t.Errorf("the order is answered with: %v", err)
					}
					if s := l.settled(); !s.Held || s.Problem != held.Problem || l.w.Runner(vm) != "" {
						t.Errorf("it runs on %q: %+v", l.w.Runner(vm), s)
					}
					l.r.Close()
					if where == "not on it" {
						l.disk.Crash(0)
					}
					l.disk.Fault = nil
					l.w.Inject(nil)
					if err := l.open(); err != nil {
						t.Fatal(err)
					}
					l.r.Resume()
					s := l.settled()
					if wrong := l.check(s, false); s.Outcome != want || len(wrong) > 0 {
						t.Errorf("after the restart: %v, %+v", wrong, s)
					}
				})
			})
		}
	}
}
