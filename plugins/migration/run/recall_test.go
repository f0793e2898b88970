package run

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal/journaltest"
)

// afterComplete loses the answer to Complete, by which the destination has everything, and lets the calls behind it go
// wrong in turn, by name and host; those of a move that was begun do at once. disk are faults of the journal's syncs.
func (l *lab) afterComplete(calls map[string][]hypervisortest.Fault, disk []error) {
	_, completed := l.r.Move(l.plan.ID)
	l.w.Inject(func(c hypervisortest.Call) (f hypervisortest.Fault) {
		at := c.Name + "@" + c.Host
		switch left := calls[at]; {
		case c.Name == "Transfer.Complete":
			completed = true
			if len(left) > 0 {
				return left[0]
			}
			return hypervisortest.FailAfter
		case completed && len(left) > 0:
			f, calls[at] = left[0], left[1:]
		}
		if f == hypervisortest.CrashBefore || f == hypervisortest.CrashAfter {
			l.life++
			l.disk.Crash(0)
		}
		return f
	})
	l.disk.Fault = func(call string) (err error) {
		if completed && call == "sync" && len(disk) > 0 {
			err, disk = disk[0], disk[1:]
		}
		return err
	}
}

// unacknowledged is a source whose transfer fails once the destination has everything; cancelled, the VM runs on there.
type unacknowledged struct{ hypervisor.Port }

type unacknowledgedTransfer struct {
	hypervisor.Transfer
	cancel func(context.Context) error
}

func (u unacknowledged) Perform(ctx context.Context, m hypervisor.Move, a hypervisor.Arrival, o hypervisor.Options) (hypervisor.Transfer, error) {
	t, err := u.Port.Perform(ctx, m, a, o)
	return unacknowledgedTransfer{t, func(ctx context.Context) error { return u.Confirm(ctx, m, false) }}, err
}

func (t unacknowledgedTransfer) Cancel(ctx context.Context) error { return t.cancel(ctx) }

// blind is a host that cannot tell what became of a VM.
type blind struct{ hypervisor.Port }

// mute is a host that does not say what became of a VM.
type mute struct{ hypervisor.Port }

func (mute) StoodStill(context.Context, hypervisor.Move) (bool, error) {
	return false, errors.New("the agent on the host does not know this request")
}

// older rewrites the journal as a version would have written it that did not tell when it let a source run.
func (l *lab) older() {
	j, records, err := journal.Open(l.disk, journal.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	for i := range records {
		if records[i].Kind == journal.Undoing {
			records[i].Phase = ""
		}
	}
	if err := errors.Join(j.Rewrite(records), j.Close()); err != nil {
		l.t.Fatal(err)
	}
}

// TestSourceThatMayHaveRun ends a source in the undo of a move whose destination has everything. That goes on only where
// the source cannot have run since: otherwise it waits for an operator, or was discarded before (invariant M1).
func TestSourceThatMayHaveRun(t *testing.T) {
	type faults = map[string][]hypervisortest.Fault
	const (
		none, lost, away   = hypervisortest.None, hypervisortest.FailAfter, hypervisortest.HostAway
		died, dies, killed = hypervisortest.CrashBefore, hypervisortest.CrashAfter, hypervisortest.KillHere
	)
	for name, c := range map[string]struct {
		calls  faults
		disk   []error
		source func(hypervisor.Port) hypervisor.Port
		older  bool
		want   Outcome // "" is held
	}{
		"dead before":                          {calls: faults{"Status@a": {killed}}, want: Moved},
		"dead before, for the next manager":    {calls: faults{"Status@b": {died}}, want: Moved},
		"dead before, nobody saw it":           {calls: faults{"Status@a": {killed}}, source: func(p hypervisor.Port) hypervisor.Port { return blind{p} }},
		"dead before, its host does not say":   {calls: faults{"Status@a": {killed}}, source: func(p hypervisor.Port) hypervisor.Port { return mute{p} }},
		"dead before, its host asked twice":    {calls: faults{"Status@a": {killed}, "StoodStill@a": {lost}}, want: Moved},
		"dead, the target looked at twice":     {calls: faults{"Status@b": {lost}, "Status@a": {killed}}, want: Moved},
		"dead, the target away":                {calls: faults{"Status@b": {away}, "Confirm@a": {killed}}},
		"runs on by itself":                    {calls: faults{"Transfer.Complete@a": {hypervisortest.RunOn}, "Status@a": {killed}}},
		"dead before, for an older version":    {calls: faults{"Status@b": {died}}, older: true},
		"answer lost":                          {calls: faults{"Confirm@a": {lost, killed}}},
		"dead as it is told to run":            {calls: faults{"Confirm@a": {killed}}},
		"manager dies as it runs":              {calls: faults{"Confirm@a": {dies}}},
		"manager dies before":                  {calls: faults{"Confirm@a": {died}}},
		"as it runs, the target away":          {calls: faults{"Status@b": {away}, "Confirm@a": {dies}}},
		"runs once cancelled":                  {calls: faults{"Confirm@a": {none, killed}}, source: func(p hypervisor.Port) hypervisor.Port { return unacknowledged{p} }},
		"answer lost, the journal cannot tell": {calls: faults{"Confirm@a": {lost, killed}}, disk: []error{nil, journaltest.ErrFault}, want: Lost},
		"undo and run not journalled":          {calls: faults{"Confirm@a": {dies}}, disk: []error{journaltest.ErrFault, journaltest.ErrFault}, want: Lost},
		"undo not journalled":                  {calls: faults{"Confirm@a": {dies}}, disk: []error{journaltest.ErrFault}},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, model.VMType{}, model.Goal{}, func(t *testing.T, l *lab) {
				if c.source != nil {
					ports := l.r.opts.Ports
					l.r.opts.Ports = func(host string) (hypervisor.Port, error) {
						p, err := ports(host)
						if host == "a" {
							p = c.source(p)
						}
						return p, err
					}
				}
				l.afterComplete(c.calls, c.disk)
				l.start()
				s := l.settled()
				if l.life > 0 {
					l.r.Close()
					l.w.Inject(nil)
					l.w.Kill("a", vm)
					l.w.Back("b")
					if c.older {
						l.older()
					}
					if err := l.open(); err != nil {
						t.Fatal(err)
					}
					l.r.Resume()
					s = l.settled()
				}
				if wrong := l.check(s, true); s.Outcome != c.want || len(wrong) > 0 {
					t.Fatalf("%v, %+v", wrong, s)
				}
				if c.want != "" {
					return
				}
				retry := func() Status {
					if err := l.r.Retry(l.plan.ID); err != nil {
						t.Fatal(err)
					}
					return l.settled()
				}
				l.w.Back("b")
				l.afterComplete(faults{"Status@b": {lost}}, nil)
				s = retry()
				if !s.Held || !strings.Contains(s.Problem, "may have run on") || l.state("b") != hypervisor.Paused {
					t.Errorf("retried, the copy is %s: %+v", l.state("b"), s)
				}
				l.w.Start("a", bare())
				s = retry()
				if wrong := l.check(s, false); s.Outcome != Undone || len(wrong) > 0 {
					t.Errorf("started again: %v, %+v", wrong, s)
				}
			})
		})
	}
}
