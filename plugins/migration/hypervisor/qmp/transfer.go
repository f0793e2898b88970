package qmp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// transfer is one from this host.
type transfer struct {
	p    *Port
	m    hypervisor.Move
	peer hypervisor.Port
	uri  string
	o    hypervisor.Options

	mu      sync.Mutex
	started bool // memory is on its way: mirrors come first
	disks   int  // mirrors
	late    bool // PostCopy was called
	cut     bool // the link of a post-copy is gone, both sides wait
	last    hypervisor.Progress
}

var _ hypervisor.Transfer = (*transfer)(nil)

// Perform implements hypervisor.Port. Repeated, it finds the transfer that is under way.
func (p *Port) Perform(ctx context.Context, m hypervisor.Move, a hypervisor.Arrival, o hypervisor.Options) (hypervisor.Transfer, error) {
	ctx = p.as(ctx, m)
	t, err := p.perform(ctx, m, a, o)
	if err != nil {
		return nil, fmt.Errorf("move %s from %s: %w", m.VM, p.conf.Name, err)
	}
	return t, nil
}

func (p *Port) perform(ctx context.Context, m hypervisor.Move, a hypervisor.Arrival, o hypervisor.Options) (*transfer, error) {
	switch {
	case p.conf.Peers == nil:
		return nil, errors.New("there is no way to watch the destination")
	case o.Channels > 1:
		return nil, fmt.Errorf("memory over %d streams: %w", o.Channels, hypervisor.ErrNotHere)
	case p.conf.Plain != o.Plain:
		return nil, fmt.Errorf("plain is %v for this host and %v for this transfer: streams are TLS unless both allow otherwise", p.conf.Plain, o.Plain)
	}
	peer, err := p.conf.Peers(ctx, m.To)
	if err != nil {
		return nil, fmt.Errorf("watch the destination: %w", err)
	}
	is, err := p.migration(ctx, m.VM)
	if err != nil {
		return nil, err
	}
	t := &transfer{p: p, m: m, peer: peer, uri: a.Address, o: o, disks: len(a.Disks)}
	if is.under() {
		t.started = true
		t.late = is.phase() == "post-copy"
		return t, nil
	}
	if s, _, err := Status(ctx, p.monitor(m.VM)); err != nil || s != hypervisor.Running && s != hypervisor.Paused {
		return nil, errors.Join(fmt.Errorf("it is %s", s), err)
	}
	if err := t.ready(ctx); err != nil {
		return nil, err
	}
	if err := p.dropMirrors(ctx, m.VM); err != nil { // of an earlier try
		return nil, err
	}
	if err := p.mirror(ctx, m, a.Disks, o.Limits); err != nil {
		return nil, errors.Join(err, p.dropMirrors(context.WithoutCancel(ctx), m.VM))
	}
	_, err = t.advance(ctx)
	return t, err
}

// ready sets everything that a transfer goes by, also what shall be off.
func (t *transfer) ready(ctx context.Context) error {
	p := t.p
	info, err := p.client.Host(ctx)
	if err != nil {
		return err
	}
	more := []string{"auto-converge"} // see leastThrottle
	if t.o.PostCopy {
		more = append(more, "postcopy-ram")
	}
	if err := p.capabilities(ctx, t.m.VM, more...); err != nil {
		return err
	}
	params, err := p.credentials(ctx, t.m, info, false)
	if err != nil {
		return err
	}
	maps.Copy(params, limits(t.o.Limits))
	return p.do(ctx, t.m.VM, "migrate-set-parameters", params, nil)
}

// advance starts the memory once the disks are mirrored, and looks.
func (t *transfer) advance(ctx context.Context) (hypervisor.Progress, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last.Phase == "completed" {
		return t.last, nil
	}
	p, vm := t.p, t.m.VM
	if !t.started {
		ready, jobs, err := p.mirrored(ctx, vm, t.disks)
		if err != nil {
			return t.last, err
		}
		if !ready {
			g := hypervisor.Progress{Phase: "setup"}
			for _, j := range jobs {
				g.Transferred += j.Offset
				g.Remaining += j.Len - min(j.Len, j.Offset)
				g.Total += j.Len
			}
			return g, nil
		}
		if err := p.do(ctx, vm, "migrate", map[string]any{"uri": t.uri}, nil); err != nil {
			return t.last, err
		}
		t.started = true
		if t.o.StopNow {
			if err := p.do(ctx, vm, "migrate-start-postcopy", nil, nil); err != nil {
				return t.last, err
			}
		}
	}
	is, err := p.migration(ctx, vm)
	if err != nil {
		return t.last, err
	}
	// The status comes before the figures.
	if is.Status == "completed" && (is.TotalTime == nil || *is.TotalTime == 0) {
		if is, err = p.migration(ctx, vm); err != nil {
			return t.last, err
		}
	}
	t.last, t.cut = is.progress(), is.cut()
	return t.last, nil
}

// Progress implements hypervisor.Transfer.
func (t *transfer) Progress(ctx context.Context) (hypervisor.Progress, error) {
	return t.advance(t.p.as(ctx, t.m))
}

// Limit implements hypervisor.Transfer.
func (t *transfer) Limit(ctx context.Context, l hypervisor.Limits) error {
	ctx = t.p.as(ctx, t.m)
	if l.StopNow && !t.o.PostCopy {
		return fmt.Errorf("post-copy was not readied: %w", hypervisor.ErrNotHere)
	}
	if err := t.p.do(ctx, t.m.VM, "migrate-set-parameters", limits(l), nil); err != nil {
		return err
	}
	t.mu.Lock()
	before := t.o.StopNow
	t.o.Limits = l
	started := t.started
	t.mu.Unlock()
	if !l.StopNow || before || !started {
		return nil // advance does it when memory starts
	}
	return t.p.do(ctx, t.m.VM, "migrate-start-postcopy", nil, nil)
}

// watch looks at both sides until done says so. A source does not tell of a destination that has died while it waits.
func (t *transfer) watch(ctx context.Context, done func(g hypervisor.Progress) bool) error {
	return t.p.await(ctx, func() (bool, error) {
		// Nobody else gets to look meanwhile, and a side that is held up by the stream itself does not answer.
		look, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		g, err := t.advance(look)
		switch {
		case err != nil && ctx.Err() == nil && look.Err() != nil:
			return false, nil
		case err != nil || done(g):
			return err == nil, err
		}
		if g.Phase == "failed" || g.Phase == "cancelled" {
			return false, fmt.Errorf("the transfer of %s was %s: %s", t.m.VM, g.Phase, g.Problem)
		}
		s, err := t.peer.Status(look, t.m.VM)
		switch {
		case err == nil && s == hypervisor.Absent:
			err = fmt.Errorf("the destination of %s on %s is gone", t.m.VM, t.m.To)
		case err != nil && ctx.Err() == nil && look.Err() != nil:
			err = nil
		}
		return false, err
	})
}

// Switchover implements hypervisor.Transfer.
func (t *transfer) Switchover(ctx context.Context) error {
	ctx = t.p.as(ctx, t.m)
	if err := t.watch(ctx, func(g hypervisor.Progress) bool { return g.Phase == "switchover" }); err != nil {
		return err
	}
	if t.disks == 0 {
		return nil
	}
	// Once a mirror has ended, what its disk has is the destination's.
	if s, err := t.peer.Status(ctx, t.m.VM); err != nil || s != hypervisor.Incoming {
		return errors.Join(fmt.Errorf("the destination of %s on %s is %s at the switch", t.m.VM, t.m.To, s), err)
	}
	return t.p.finishMirrors(ctx, t.m.VM, t.disks)
}

// goOn ends the pause before the switch; repeated it is refused by QEMU, which is fine when it has gone on. The guest stands
// still meanwhile: nothing is asked first.
func (t *transfer) goOn(ctx context.Context) error {
	err := t.p.do(ctx, t.m.VM, "migrate-continue", map[string]any{"state": "pre-switchover"}, nil)
	var refused *Error
	if errors.As(err, &refused) {
		if again, look := t.advance(ctx); look == nil && again.Phase != "switchover" {
			return nil
		}
	}
	return err
}

// PostCopy implements hypervisor.Transfer.
func (t *transfer) PostCopy(ctx context.Context) error {
	ctx = t.p.as(ctx, t.m)
	if !t.o.PostCopy {
		return fmt.Errorf("post-copy was not readied: %w", hypervisor.ErrNotHere)
	}
	if err := t.goOn(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	t.late = true
	t.mu.Unlock()
	// Little was left, and it went along: then the move has been a pre-copy after all.
	if err := t.watch(ctx, func(g hypervisor.Progress) bool { return g.Phase == "post-copy" || g.Phase == "completed" }); err != nil {
		return err
	}
	return t.arrived(ctx, func(s hypervisor.State) bool { return s == hypervisor.Paused || s == hypervisor.Running })
}

// Complete implements hypervisor.Transfer. That the source has completed is not enough, nor that the destination has.
func (t *transfer) Complete(ctx context.Context) error {
	ctx = t.p.as(ctx, t.m)
	if err := t.goOn(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	late := t.late
	t.mu.Unlock()
	if late {
		return t.rest(ctx)
	}
	err := t.watch(ctx, func(g hypervisor.Progress) bool { return g.Phase == "completed" })
	if err == nil {
		err = t.arrived(ctx, func(s hypervisor.State) bool { return s == hypervisor.Paused })
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("the rest of %s was not on %s in time: look at the link between the hosts: %w", t.m.VM, t.m.To, err)
	}
	return err
}

// arrived waits for a state of the destination.
func (t *transfer) arrived(ctx context.Context, done func(hypervisor.State) bool) error {
	look := func() (bool, error) {
		s, err := t.peer.Status(ctx, t.m.VM)
		if err == nil && s == hypervisor.Absent {
			err = fmt.Errorf("the destination of %s on %s is gone", t.m.VM, t.m.To)
		}
		return done(s), err
	}
	for {
		if ok, err := look(); ok || err != nil {
			return err
		}
		select {
		// No event tells that a destination has what it needs to run, and the guest stands still meanwhile.
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Cancel implements hypervisor.Transfer.
func (t *transfer) Cancel(ctx context.Context) error {
	ctx = t.p.as(ctx, t.m)
	is, deaf, err := t.p.glimpse(ctx, t.m.VM)
	if err != nil {
		return err
	}
	t.mu.Lock()
	started := t.started
	t.mu.Unlock()
	if started {
		switch is.phase() {
		case "post-copy", "completed":
			return fmt.Errorf("cancel move of %s: its transfer is %s", t.m.VM, is.phase())
		}
		if deaf || is.under() {
			if err := t.p.cancelTransfer(ctx, t.m.VM); err != nil {
				return err
			}
		}
	}
	return t.p.dropMirrors(ctx, t.m.VM)
}
