package run

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
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

// fault is what goes wrong at the n-th call of a host or an agent, or at the n-th write of the journal.
type fault struct {
	n    int
	call hypervisortest.Fault
	disk error // instead
}

func (f fault) String() string {
	if f.disk != nil {
		return fmt.Sprintf("%v, write %d of the journal", f.disk, f.n)
	}
	return fmt.Sprintf("%s at call %d", f.call, f.n)
}

func (f fault) crashes() bool {
	return f.disk != nil && !errors.Is(f.disk, journaltest.ErrFault) || f.call == hypervisortest.CrashBefore || f.call == hypervisortest.CrashAfter
}

func (f fault) kills() bool {
	return f.call == hypervisortest.KillHere || f.call == hypervisortest.KillThere
}

// result of a case.
type result struct {
	status      Status
	calls, disk int // of the first manager and all after it
	at          []string
	wrong       []string
}

// play runs a case with faults, with as many managers as it takes, and says how it ended.
func (l *lab) play(faults ...fault) (res result) {
	l.t.Helper()
	var away []string
	crashed := false
	due := func(n int, disk bool, at string) (fault, bool) {
		for _, f := range faults {
			if f.n == n && (f.disk != nil) == disk {
				res.at = append(res.at, at)
				if f.crashes() {
					crashed = true
					l.life++
				}
				return f, true
			}
		}
		return fault{}, false
	}
	call := func(host, at string) hypervisortest.Fault {
		n := res.calls
		res.calls++
		f, ok := due(n, false, at)
		switch {
		case !ok:
			return hypervisortest.None
		case f.crashes():
			l.disk.Crash(n % 50) // some of what was not synced may be there
		case f.call == hypervisortest.HostAway && host != "":
			away = append(away, host)
		}
		return f.call
	}
	l.w.Inject(func(c hypervisortest.Call) hypervisortest.Fault { return call(c.Host, c.String()) })
	l.guest.fault = func(verb string) hypervisortest.Fault { return call("", verb) }
	l.disk.Fault = func(name string) error {
		if name != "sync" {
			return nil
		}
		n := res.disk
		res.disk++
		f, _ := due(n, true, "a write of the journal")
		if f.crashes() {
			l.w.Crash()
		}
		return f.disk
	}
	manage := func() {
		for err := l.open(); err != nil; err = l.open() { // a fault at its first write
			if res.disk > 100 {
				l.t.Fatal(err)
			}
		}
	}
	manage()
	err := l.r.Start(l.plan)
	if err != nil { // the operator tries again
		err = l.r.Start(l.plan)
	}
	if err == nil {
		res.status = l.settled()
	}
	for range 4 {
		// A journal that can be neither written nor cut back asks for a restart.
		if crashed || strings.Contains(res.status.Problem, journal.ErrUncertain.Error()) {
			crashed = false
			l.r.Close()
			manage()
			l.r.Resume()
			res.status = l.settled()
		}
		for _, host := range away {
			l.w.Back(host)
		}
		away = nil
		if res.status.Held && l.r.Retry(l.plan.ID) == nil {
			res.status = l.settled()
		}
	}
	l.r.Close()
	res.wrong = l.check(res.status, slices.ContainsFunc(faults, fault.kills))
	return res
}

// check holds how a case ended against what must be (invariants M1, M2).
func (l *lab) check(s Status, killed bool) (wrong []string) {
	no := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, v := range l.w.Violations() {
		no("%s", v)
	}
	for _, m := range l.w.History() {
		if len(m.Running[vm]) > 1 {
			no("after %s it ran on %v", m.What, m.Running[vm])
		}
	}
	where, hosts := l.w.Runner(vm), l.w.Hosts(vm)
	want, shape := "", l.plan.Before
	switch {
	case s.Outcome == Undone:
		want = "a"
	case s.Outcome == Moved:
		want, shape = "b", l.plan.After
	case s.Outcome == Partly:
		want = "b"
	case s.Outcome == Lost && killed:
		return wrong
	case s.Held && s.Committed && killed:
		return wrong // it was killed where it had its only copy: for an operator
	case s.Held && s.Phase == Undo && killed && slices.Equal(hosts, []string{"b"}) && where == "":
		return wrong // it was killed where it may have run on, and its older copy waits: for an operator
	case s.ID == "" && where == "a":
		return wrong // the journal could not take the plan
	default:
		no("it ended as %q, held %t, committed %t", s.Outcome, s.Held, s.Committed)
		return wrong
	}
	if killed && len(hosts) == 0 {
		return wrong // it was killed after the move had been verified
	}
	if where != want {
		no("%s, and it runs on %q", s.Outcome, where)
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

// try plays a case in time of its own.
func try(t *testing.T, c int, change func(*lab), faults ...fault) (res result) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, cases[c].ty, cases[c].goal)
		if change != nil {
			change(l)
		}
		res = l.play(faults...)
	})
	return res
}

// everywhere are all single faults of a case.
func everywhere(clean result) (list []fault) {
	for n := range clean.calls {
		for _, f := range hypervisortest.Faults() {
			list = append(list, fault{n: n, call: f})
		}
	}
	for n := range clean.disk {
		for _, d := range []error{journaltest.ErrFault, journaltest.ErrCrash, journaltest.ErrCrashAfter} {
			list = append(list, fault{n: n, disk: d})
		}
	}
	return list
}

// TestFaultAnywhere lets every call of a host or an agent fail in every way, and every write of the journal, in every kind
// of move. Whatever happens, the VM ends at the source as it was or at the target, and never runs twice.
func TestFaultAnywhere(t *testing.T) {
	for c := range cases {
		t.Run(cases[c].name, func(t *testing.T) {
			t.Parallel()
			clean := try(t, c, nil)
			if clean.status.Outcome != Moved || len(clean.wrong) > 0 {
				t.Fatalf("without a fault: %v, %+v", clean.wrong, clean.status)
			}
			outcomes := map[Outcome]int{}
			all := everywhere(clean)
			for i, f := range all {
				if testing.Short() && i%7 != 0 { // under the race detector each takes ten times as long
					continue
				}
				res := try(t, c, nil, f)
				outcomes[res.status.Outcome]++
				if len(res.wrong) > 0 {
					t.Errorf("%s (%v): %v\n%+v", f, res.at, res.wrong, res.status)
				}
			}
			t.Logf("%d calls, %d writes, %d faults: %v; %v", clean.calls, clean.disk, len(all), outcomes, clean.status.Why)
		})
	}
}

var (
	histories = flag.Int("histories", 400, "how many moves with several faults TestHistories tries")
	seed      = flag.Uint64("seed", 1, "what their faults are drawn from")
)

// TestHistories draws up to three faults for each move; a second one may meet the undo of the first.
func TestHistories(t *testing.T) {
	cleans := make([]result, len(cases))
	for c := range cases {
		cleans[c] = try(t, c, nil)
	}
	if testing.Short() {
		*histories = min(*histories, 60)
	}
	lost, outcomes := 0, map[Outcome]int{}
	for i := range *histories {
		r := rand.New(rand.NewPCG(*seed, uint64(i)))
		c := r.IntN(len(cases))
		all := everywhere(cleans[c])
		faults := []fault{all[r.IntN(len(all))]}
		for len(faults) < 3 && r.IntN(4) > 0 {
			f := all[r.IntN(len(all))]
			f.n = faults[0].n + 1 + r.IntN(12)
			faults = append(faults, f)
		}
		res := try(t, c, nil, faults...)
		outcomes[res.status.Outcome]++
		if len(res.wrong) > 0 {
			lost++
			t.Errorf("history %d, %s, %v (%v): %v\n%+v", i, cases[c].name, faults, res.at, res.wrong, res.status)
		}
	}
	t.Logf("outcomes: %v", outcomes)
	t.Logf("soak migration.history %d tried, %d lost", *histories, lost)
}

// TestMutants breaks each invariant on purpose: the trial of all single faults must find it.
func TestMutants(t *testing.T) {
	for name, change := range map[string]func(*lab){
		"commit after the destination runs":  func(l *lab) { l.mutant = mutantCommitLate },
		"undo without handing back":          func(l *lab) { l.mutant = mutantKeepVolumes },
		"undo that runs before handing back": func(l *lab) { l.mutant = mutantResumeFirst },
		"journal without fsync":              func(l *lab) { l.disk.Lazy = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clean := try(t, 0, change)
			for _, f := range everywhere(clean) {
				if res := try(t, 0, change, f); len(res.wrong) > 0 {
					t.Logf("found by %s (%v): %v", f, res.at, res.wrong)
					return
				}
			}
			t.Error("no fault shows it")
		})
	}
}
