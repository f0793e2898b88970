package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
	"github.com/ratchetos/ratchet/plugins/migration/run/policy"
)

// errPerhaps means that nobody knows whether the commit is on the disk.
var errPerhaps = errors.New("the commit may be on the disk or not")

// send transfers memory until the source has stopped. left tells that it stopped for a post-copy.
func (m *move) send(ctx context.Context, source hypervisor.Port, a hypervisor.Arrival, how way) (left bool, err error) {
	limit := m.r.opts.Policy.Transfer
	if how.goal.Deadline > 0 {
		// The controller gives up at the deadline; a transfer that does not even answer ends here.
		limit = how.goal.Deadline + m.r.opts.Policy.Call
	}
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	how.goal.Share = m.share()
	c := policy.New(how.goal)
	o := c.Start()
	o.Plain = how.plain
	begun := m.r.opts.Now()
	m.begunAt = begun
	m.show(func(s *Status) { s.Doing, s.Mode = "send memory", mode(o.Limits) })
	call := func(what string, order func(context.Context) error) error {
		limit := min(m.r.opts.Policy.Call, how.goal.Stall)
		once, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return late(ctx, m.plan.From, what, limit, order(once))
	}
	if err := call("begin the transfer", func(ctx context.Context) (err error) {
		m.transfer, err = source.Perform(ctx, m.order(), a, o)
		return err
	}); err != nil {
		return false, err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- m.transfer.Switchover(ctx) }()
	defer func() {
		if stopped != nil {
			cancel()
			m.r.opts.Log.Debug("a transfer is not waited for", "move", m.id, "err", <-stopped)
		}
	}()
	look := time.NewTicker(m.r.opts.Policy.Watch)
	defer look.Stop()
	w := &watch{m: m, controller: c, call: call, stall: how.goal.Stall, begun: begun, seen: begun}
	for {
		select {
		case err := <-stopped:
			stopped = nil
			m.stopped = m.r.opts.Now()
			m.show(func(s *Status) { s.Took, s.ETA, s.Phase = m.stopped.Sub(begun), 0, Switchover })
			return w.left, late(whole, m.plan.From, "send the memory", limit, err)
		case <-look.C:
		}
		if err := w.look(); err != nil {
			return w.left, err
		}
	}
}

// watch is a transfer on its way.
type watch struct {
	m          *move
	controller *policy.Controller
	call       func(what string, order func(context.Context) error) error // one to the source
	stall      time.Duration
	begun      time.Time
	seen       time.Time // when the source told of it last
	left       bool      // the source may have been told to stop for a post-copy
}

// look asks once how far it is, shows that, and does what the controller decides.
func (w *watch) look() error {
	var p hypervisor.Progress
	if err := w.call("tell of the transfer", func(ctx context.Context) (err error) {
		p, err = w.m.transfer.Progress(ctx)
		return err
	}); err != nil {
		if w.m.r.opts.Now().Sub(w.seen) > w.stall {
			return fmt.Errorf("watch the transfer: %w", err)
		}
		return nil
	}
	w.seen = w.m.r.opts.Now()
	var d policy.Decision
	if p.Transferred >= w.controller.Opening() {
		d = w.controller.Bandwidth(w.m.granted())
	}
	if d.Limits == nil {
		d = w.controller.Observe(w.seen.Sub(w.begun), p)
	}
	ahead, _ := w.controller.Ahead(p)
	w.m.show(func(s *Status) {
		s.measured(p)
		s.ETA = ahead
		if d.Why != "" {
			s.because(d.Why)
		}
		if d.Limits != nil {
			s.Mode = mode(*d.Limits)
		}
	})
	if d.GiveUp != "" {
		return errors.New(d.GiveUp)
	}
	if d.Limits != nil {
		// Whether it was heard or not: what may have been asked for counts.
		w.left = d.Limits.StopNow
		if err := w.call("steer the transfer", func(ctx context.Context) error { return w.m.transfer.Limit(ctx, *d.Limits) }); err != nil {
			return fmt.Errorf("steer the transfer: %w", err)
		}
	}
	return nil
}

// share is what the transfer may use of links that it has with others, 0 where nobody divides them. Mirrors of local disks keep
// the speed that they begin with, so a move that has any does not begin with a part that may be small.
func (m *move) share() uint64 {
	mirrored := slices.ContainsFunc(m.plan.During.Disks, func(d model.Disk) bool { return d.Source.Local != "" })
	if m.r.opts.Grant == nil || mirrored {
		return 0
	}
	first := m.r.opts.Grant(m.id)
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	if m.bandwidth == 0 {
		m.bandwidth = first // until Limit says more
	}
	return first
}

// granted is the latest by Limit.
func (m *move) granted() uint64 {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	return m.bandwidth
}

func mode(l hypervisor.Limits) string {
	switch {
	case l.StopNow:
		return "post-copy"
	case l.Throttle > 0:
		return "throttle"
	}
	return "pre-copy"
}

// switchover takes a VM that stands still at the source to where the target may let it run, and commits. It is the gap:
// nothing is done here that could be done before or after it.
func (m *move) switchover(ctx context.Context, target hypervisor.Port, a hypervisor.Arrival, how way, left bool) error {
	whole, limit := ctx, m.r.opts.Policy.Switch
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// A destination that died while the source waits is reported by nobody.
	state, err := target.Status(ctx, m.plan.VM)
	if err != nil {
		return late(whole, m.plan.To, "say what the destination is", limit, err)
	}
	if state != hypervisor.Incoming {
		return fmt.Errorf("the destination is %s and should wait for the rest", state)
	}
	if err := m.handOver(ctx, m.plan.From, m.plan.To); err != nil {
		return err
	}
	if left {
		if err := m.write(journal.Record{Kind: journal.Leaving, Plan: leavingFor(a, how.plain)}); err != nil {
			return err
		}
		if err := m.transfer.PostCopy(ctx); err != nil {
			return late(whole, m.plan.From, "switch to post-copy", limit, err)
		}
	} else if err := m.transfer.Complete(ctx); err != nil {
		return late(whole, m.plan.From, "complete the transfer", limit, err)
	}
	return m.commit(ctx)
}

// commit is the point of no return. A cancel that came before it still counts.
func (m *move) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.r.opts.mutant == mutantCommitLate {
		if err := m.letRun(ctx); err != nil {
			return err
		}
	}
	err := m.recordCommit()
	m.untold = err == nil
	return err
}

// recordCommit journals the commit. When nobody knows whether it is on the disk the next manager decides by what it finds
// there: whichever side this one let run now, that one could let the other run.
func (m *move) recordCommit() error {
	err := m.write(journal.Record{Kind: journal.Committed})
	if !errors.Is(err, journal.ErrUncertain) {
		return err
	}
	err = fmt.Errorf("%w, and %s stands still until that is known: %w", errPerhaps, m.plan.VM, err)
	m.r.mu.Lock()
	m.perhaps = err
	m.r.mu.Unlock()
	return err
}

// leave goes on with a post-copy that a manager before this one had begun: the source stands still with memory that only
// it has, and letting it go on to the target is safer than to call it back.
func (m *move) leave(ctx context.Context) error {
	return m.again(ctx, "go on with the post-copy", m.r.opts.Policy.Call, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, m.r.opts.Policy.Switch)
		defer cancel()
		// They were, unless an undo was begun that could not even be journalled.
		if err := m.handOver(ctx, m.plan.From, m.plan.To); err != nil {
			return err
		}
		if err := m.attach(ctx); err != nil {
			return err
		}
		if err := m.transfer.PostCopy(ctx); err != nil {
			return err
		}
		return m.commit(ctx)
	})
}

// attach finds the transfer again that this or an earlier manager began.
func (m *move) attach(ctx context.Context) error {
	if m.transfer != nil {
		return nil
	}
	source, err := m.source()
	if err != nil {
		return err
	}
	o := hypervisor.Options{PostCopy: true, Limits: hypervisor.Limits{Bandwidth: uint64(m.plan.Goal.Bandwidth), Rest: uint64(m.plan.Goal.PostCopyBandwidth), StopNow: true}, Plain: m.left.Plain}
	ctx, cancel := context.WithTimeout(ctx, m.r.opts.Policy.Call)
	defer cancel()
	m.transfer, err = source.Perform(ctx, m.order(), m.left.arrival(), o)
	return err
}

// handOver gives all volumes of the VM from one host to another.
func (m *move) handOver(ctx context.Context, from, to string) error {
	for _, v := range m.volumes() {
		if m.r.opts.Volumes == nil {
			return errNoVolumes
		}
		ctx, cancel := context.WithTimeout(ctx, m.r.opts.Policy.Call)
		_, err := m.r.opts.Volumes.Handover(ctx, v, from, to)
		cancel()
		if err != nil {
			return fmt.Errorf("hand volume %s over from %s to %s: %w", v, from, to, err)
		}
	}
	return nil
}
