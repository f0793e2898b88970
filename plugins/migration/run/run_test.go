package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// in runs a test in time of its own, with a manager that is closed at the end.
func in(t *testing.T, ty model.VMType, goal model.Goal, test func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, ty, goal)
		if err := l.open(); err != nil {
			t.Fatal(err)
		}
		test(t, l)
		l.r.Close()
		if wrong := l.w.Violations(); len(wrong) > 0 && !l.broken {
			t.Errorf("violations: %v", wrong)
		}
	})
}

// restless is a guest that writes faster than can be sent.
func restless(l *lab) {
	l.w.Guest = func(string) hypervisortest.Behaviour {
		return hypervisortest.Behaviour{Dirty: 160e6, Bandwidth: 100e6}
	}
}

func (l *lab) start() {
	l.t.Helper()
	if err := l.r.Start(l.plan); err != nil {
		l.t.Fatal(err)
	}
}

// until waits for a status.
func (l *lab) until(what string, ok func(Status) bool) Status {
	l.t.Helper()
	for {
		s, _ := l.r.Move(l.plan.ID)
		if ok(s) {
			return s
		}
		if s.Ends() {
			l.t.Fatalf("waiting for %s: %+v", what, s)
		}
		<-l.changed
	}
}

func TestCancel(t *testing.T) {
	in(t, retype, model.Goal{}, func(t *testing.T, l *lab) {
		restless(l)
		l.start()
		l.until("memory under way", func(s Status) bool { return s.Total > 0 })
		if err := l.r.Cancel(l.plan.ID); err != nil {
			t.Fatal(err)
		}
		s := l.settled()
		if s.Outcome != Undone || s.Problem != errCancelled.Error() {
			t.Errorf("cancelled: %+v", s)
		}
		if wrong := l.check(s, false); len(wrong) > 0 {
			t.Error(wrong)
		}
		if err := l.r.Cancel(l.plan.ID); err == nil {
			t.Error("what has ended was cancelled")
		}
	})
}

// TestGrant: where links are divided, the first byte is sent within the move's part; a mirror of a local disk keeps the speed that
// it begins with, and is not asked for.
func TestGrant(t *testing.T) {
	in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
		restless(l)
		l.r.opts.Grant = func(string) uint64 { return 5e6 }
		l.start()
		if s := l.until("memory under way", func(s Status) bool { return s.Total > 0 }); s.Bandwidth > 5e6 {
			t.Errorf("it began with %.0f bytes a second", s.Bandwidth)
		}
		l.w.Advance(time.Second) // something is sent
		l.until("its share", func(s Status) bool { return s.Bandwidth == 5e6 })
		if err := l.r.Limit(l.plan.ID, 8e6); err != nil {
			t.Fatal(err)
		}
		l.until("the new limit", func(s Status) bool { return s.Bandwidth == 8e6 })
		m := &move{r: l.r, state: state{plan: l.plan}}
		m.plan.During.Disks = []model.Disk{{Source: model.Source{Local: "/disk"}}}
		if got := m.share(); got != 0 {
			t.Errorf("a move with a mirror begins with %d", got)
		}
	})
}

// TestGoals lets a guest write faster than can be sent, and looks at what the goal makes of it.
func TestGoals(t *testing.T) {
	for name, c := range map[string]struct {
		goal    model.Goal
		outcome Outcome
		mode    string
	}{
		"nothing allowed":      {model.Goal{}, Undone, "pre-copy"},
		"throttle":             {model.Goal{AllowThrottle: true}, Moved, "throttle"},
		"post-copy":            {model.Goal{AllowPostCopy: true}, Moved, "post-copy"},
		"deadline":             {model.Goal{Deadline: strict.Duration(3 * time.Second)}, Undone, "pre-copy"},
		"deadline, post-copy":  {model.Goal{Deadline: strict.Duration(3 * time.Second), AllowPostCopy: true}, Moved, "post-copy"},
		"refused at the start": {model.Goal{Bandwidth: strict.Size(50 << 20)}, Undone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, model.VMType{}, c.goal, func(t *testing.T, l *lab) {
				restless(l)
				l.start()
				for { // memory moves as time does
					l.w.Advance(100 * time.Millisecond)
					time.Sleep(100 * time.Millisecond) // of the bubble
					if s, _ := l.r.Move(l.plan.ID); s.Ends() {
						break
					}
				}
				s := l.settled()
				if s.Outcome != c.outcome || s.Mode != c.mode {
					t.Errorf("%s by %s: %s %q", s.Outcome, s.Mode, s.Problem, s.Why)
				}
				if wrong := l.check(s, false); len(wrong) > 0 {
					t.Error(wrong)
				}
			})
		})
	}
}

// TestHypervisorThatThrottlesItself is told before the start, since it would not hear it later.
func TestHypervisorThatThrottlesItself(t *testing.T) {
	for _, c := range []struct {
		goal  model.Goal
		began string
	}{{model.Goal{AllowThrottle: true}, "throttle"}, {model.Goal{}, "pre-copy"}, {model.Goal{AllowThrottle: true, AllowPostCopy: true}, "pre-copy"}} {
		in(t, model.VMType{}, c.goal, func(t *testing.T, l *lab) {
			p, err := l.w.Port(l.plan.From)
			if err != nil {
				t.Fatal(err)
			}
			h, err := p.Capabilities(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			h.ThrottlesItself = true
			l.w.SetHost(h)
			restless(l)
			l.start()
			time.Sleep(time.Second) // of the bubble: memory does not move meanwhile
			if s, _ := l.r.Move(l.plan.ID); s.Mode != c.began {
				t.Errorf("%+v began with %q, want %q", c.goal, s.Mode, c.began)
			}
			if err := l.r.Cancel(l.plan.ID); err != nil {
				t.Fatal(err)
			}
			l.settled()
		})
	}
}

func TestVerify(t *testing.T) {
	for _, m := range []mutant{mutantNone, mutantResumeUnverified} {
		t.Run(fmt.Sprint("mutant ", m), func(t *testing.T) {
			in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
				l.r.opts.mutant = m
				pings := 0
				l.guest.fault = func(verb string) hypervisortest.Fault {
					if pings++; pings == 2 {
						l.guest.boot = "another guest"
					}
					return hypervisortest.None
				}
				l.start()
				s := l.settled()
				if m != mutantNone {
					if len(l.w.Violations()) == 0 && l.w.Runner(vm) == "b" {
						t.Error("a source that is resumed after a failed verify is not noticed")
					}
					l.broken = true
					return
				}
				if !s.Held || !s.Committed || s.Phase != Verify || !strings.Contains(s.Problem, "another guest") {
					t.Fatalf("another guest answers: %+v", s)
				}
				if err := l.r.Cancel(l.plan.ID); !errors.Is(err, ErrCommitted) {
					t.Errorf("cancel after the commit: %v", err)
				}
				if state := l.state("a"); state != hypervisor.Moved {
					t.Errorf("the source is %s", state)
				}
				if err := l.r.Accept(l.plan.ID); err != nil {
					t.Fatal(err)
				}
				s = l.settled()
				if s.Outcome != Moved {
					t.Errorf("accepted: %+v", s)
				}
				if wrong := l.check(s, false); len(wrong) > 0 {
					t.Error(wrong)
				}
			})
		})
	}
}

func (l *lab) state(host string) hypervisor.State {
	p, err := l.w.Port(host)
	if err != nil {
		l.t.Fatal(err)
	}
	state, err := p.Status(context.Background(), vm)
	if err != nil {
		l.t.Fatal(err)
	}
	return state
}

// TestFenced lets a newer manager speak to a host in the middle of a move: the older one gives no more orders.
func TestFenced(t *testing.T) {
	for _, m := range []mutant{mutantNone, mutantDeafToFence} {
		for _, host := range []string{"a", "b"} {
			t.Run(fmt.Sprint("mutant ", m, " at ", host), func(t *testing.T) {
				in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
					l.r.opts.mutant = m
					restless(l)
					l.start()
					l.until("memory under way", func(s Status) bool { return s.Total > 0 })
					p, err := l.w.Port(host)
					if err != nil {
						t.Fatal(err)
					}
					// What it says does not matter.
					newer := hypervisor.Move{ID: "other", Epoch: l.r.Epoch() + 1, VM: "vm2"}
					p.Finish(context.Background(), newer, false)
					orders := 0
					l.w.Inject(func(c hypervisortest.Call) hypervisortest.Fault {
						switch c.Name {
						case "Finish", "Confirm", "Cancel", "Transfer.Cancel":
							orders++
						}
						return hypervisortest.None
					})
					for l.w.Advance(time.Minute); ; l.w.Advance(time.Minute) {
						if s, _ := l.r.Move(l.plan.ID); s.Ends() {
							break
						}
						time.Sleep(time.Second) // of the bubble
					}
					s := l.settled()
					if m != mutantNone {
						if orders < 2 && host == "a" { // at b the move is committed by then
							t.Error("orders of a fenced manager are not noticed")
						}
						return
					}
					if !s.Held || !strings.Contains(s.Problem, hypervisor.ErrFenced.Error()) {
						t.Errorf("fenced: %+v", s)
					}
					if most := map[string]int{"a": 1, "b": 2}[host]; orders > most {
						t.Errorf("%d orders, and the %d. was refused", orders, most)
					}
				})
			})
		}
	}
}

// TestOwed leaves a destination behind that could not be discarded: the next move there does it.
func TestOwed(t *testing.T) {
	in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
		l.w.Inject(func(c hypervisortest.Call) hypervisortest.Fault {
			if c.Name == "Perform" {
				return hypervisortest.FailBefore
			}
			if c.Name == "Finish" {
				return hypervisortest.FailBefore
			}
			return hypervisortest.None
		})
		l.start()
		if s := l.settled(); s.Outcome != Undone || !s.Owed {
			t.Fatalf("%+v", s)
		}
		l.w.Inject(nil)
		if state := l.state("b"); state != hypervisor.Incoming {
			t.Fatalf("the destination is %s", state)
		}
		l.r.Close()
		if err := l.open(); err != nil { // it is known to the next manager
			t.Fatal(err)
		}
		l.plan.ID = "move-2"
		l.start()
		if s := l.settled(); s.Outcome != Moved {
			t.Fatalf("%+v", s)
		}
		if s, _ := l.r.Move("move-1"); s.Owed {
			t.Error("it is still owed")
		}
	})
}

func TestOneAtATime(t *testing.T) {
	in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
		restless(l)
		l.start()
		if err := l.r.Start(l.plan); err == nil {
			t.Error("the same plan was started twice")
		}
		again := l.plan
		again.ID = "move-2"
		if err := l.r.Start(again); !errors.Is(err, ErrMoving) {
			t.Errorf("a second move of the VM: %v", err)
		}
		l.r.opts.Moves = 1
		other := again
		other.VM = "vm2"
		if err := l.r.enlist(&move{r: l.r, id: "move-3", status: Status{VM: "vm2"}}); !errors.Is(err, ErrTooMany) {
			t.Errorf("more than may be under way: %v", err)
		}
		l.r.Cancel(l.plan.ID)
		l.settled()
		if err := l.r.Retry(l.plan.ID); err == nil {
			t.Error("a move that has ended was retried")
		}
		if err := l.r.Accept("nobody"); !errors.Is(err, ErrNoSuchMove) {
			t.Errorf("accept an unknown move: %v", err)
		}
	})
}

// TestHistoryIsKept moves there and back until the journal is rewritten, and reads it with another manager.
func TestHistoryIsKept(t *testing.T) {
	in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
		there, back := l.plan, l.plan
		back.From, back.To = back.To, back.From
		const moves = 300
		for i := range moves {
			l.plan = there
			if i%2 == 1 {
				l.plan = back
			}
			l.plan.ID = fmt.Sprint("move-", i)
			l.start()
			if s := l.settled(); s.Outcome != Moved {
				t.Fatalf("%+v", s)
			}
		}
		epoch := l.r.Epoch()
		l.r.Close()
		if data, _ := l.disk.Read("moves.journal"); len(data) > 2<<20 {
			t.Errorf("the journal has %d bytes", len(data))
		}
		if err := l.open(); err != nil {
			t.Fatal(err)
		}
		if l.r.Epoch() != epoch+1 {
			t.Errorf("epoch %d after %d", l.r.Epoch(), epoch)
		}
		list := l.r.Moves()
		if n := len(list); n < keptMoves || n > moves {
			t.Errorf("%d moves are remembered", n)
		}
		last := list[len(list)-1]
		if last.ID != fmt.Sprint("move-", moves-1) || last.Outcome != Moved || last.VM != vm || last.Gap != 0 && last.Ended.IsZero() {
			t.Errorf("the last one is %+v", last)
		}
	})
}

// TestNewerJournal refuses what it cannot read, instead of leaving out half of a move (invariant X1).
func TestNewerJournal(t *testing.T) {
	in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
		m := &move{r: l.r, id: "m"}
		if err := m.apply(journal.Record{Kind: "teleported", Move: "m"}); !errors.Is(err, journal.ErrNewer) {
			t.Errorf("a kind of record of the future: %v", err)
		}
		p := l.plan
		p.Version = plan.Version + 1
		if err := l.r.Start(p); err == nil {
			t.Error("a plan of the future was started")
		}
	})
}
