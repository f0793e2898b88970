package hypervisortest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// Phases of hypervisor.Progress that a transfer goes through.
const (
	active     = "active"
	switchover = "switchover"
	postCopy   = "post-copy"
	completed  = "completed"
	failed     = "failed"
	cancelled  = "cancelled"
)

// defaultDowntime is QEMU's.
const defaultDowntime = 300 * time.Millisecond

type transfer struct {
	p        *Port
	m        hypervisor.Move
	to       string
	limits   hypervisor.Limits
	postCopy bool // was readied

	phase     string
	problem   string
	sent      float64
	remaining float64
	passDirty float64 // written by the guest since the pass began
	passes    int
	broken    bool // the destination is gone and the source has not noticed
}

var _ hypervisor.Transfer = (*transfer)(nil)

// Perform implements hypervisor.Port. Memory moves as time does: see Advance. A guest that can converge at once under
// the limits does, without Advance.
func (p *Port) Perform(ctx context.Context, m hypervisor.Move, a hypervisor.Arrival, o hypervisor.Options) (hypervisor.Transfer, error) {
	var t *transfer
	err := p.move(ctx, "Perform", m, func(h *host) error {
		v, err := h.vm(m.VM)
		if err != nil {
			return err
		}
		if old := v.transfer; old != nil && old.m.ID == m.ID && old.phase != failed && old.phase != cancelled {
			old.p, old.m = p, m // the manager, or one after it, finds it again
			t = old
			return nil
		}
		to := strings.TrimPrefix(a.Address, "memory:")
		switch d := p.w.hosts[to]; {
		case v.state != hypervisor.Running:
			return fmt.Errorf("move %s: it is %s", m.VM, v.state)
		case v.transfer != nil && v.transfer.phase == active:
			return fmt.Errorf("move %s: a transfer is under way", m.VM)
		case d == nil || d.vms[m.VM] == nil || d.vms[m.VM].state != hypervisor.Incoming:
			return fmt.Errorf("move %s: nothing listens at %q", m.VM, a.Address)
		}
		t = &transfer{p: p, m: m, to: to, limits: o.Limits, postCopy: o.PostCopy, phase: active, remaining: float64(v.shape.Memory.Total())}
		v.transfer = t
		p.w.event(p.name, m.VM, "MIGRATION", active)
		t.converge()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Advance lets simulated time pass for all transfers.
func (w *World) Advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now += d
	for _, h := range w.hosts {
		for _, v := range h.vms {
			if v.transfer != nil {
				v.transfer.advance(d)
			}
		}
	}
	w.note("advance " + d.String())
}

func (t *transfer) rates() (bandwidth, dirty float64) {
	b := t.p.w.behaviour(t.m.VM)
	bandwidth, dirty = b.Bandwidth, b.Dirty*(1-float64(t.limits.Throttle)/100)
	limit := t.limits.Bandwidth
	if t.phase == postCopy {
		limit = t.limits.Rest
	}
	if limit > 0 {
		bandwidth = min(bandwidth, float64(limit))
	}
	return bandwidth, dirty
}

// advance sends for d: what the guest writes meanwhile is sent in the next pass.
func (t *transfer) advance(d time.Duration) {
	if t.phase != active && t.phase != postCopy {
		return
	}
	bandwidth, dirty := t.rates()
	if t.phase == postCopy {
		dirty = 0
	}
	for left := d.Seconds(); left > 0 && t.phase != switchover; {
		step := min(left, t.remaining/bandwidth)
		left -= step
		t.sent += step * bandwidth
		t.remaining -= step * bandwidth
		t.passDirty = min(t.passDirty+step*dirty, float64(t.m.Shape.Memory.Total()))
		if t.remaining > 1 {
			continue
		}
		t.passes++
		t.remaining, t.passDirty = t.passDirty, 0
		if t.phase == postCopy {
			return
		}
		if t.stopNow(bandwidth) {
			t.stopSource()
		} else if t.remaining < 1 {
			return
		}
	}
}

func (t *transfer) stopNow(bandwidth float64) bool {
	downtime := t.limits.Downtime
	if downtime == 0 {
		downtime = defaultDowntime
	}
	return t.remaining/bandwidth <= downtime.Seconds()
}

// converge takes a guest that needs no more than a few passes to the switch without waiting for time to pass.
func (t *transfer) converge() {
	bandwidth, dirty := t.rates()
	if t.phase != active {
		return
	}
	if t.limits.StopNow || dirty < bandwidth/2 {
		if !t.limits.StopNow {
			t.sent += t.remaining
			t.remaining, t.passes = 0, t.passes+1
		}
		t.stopSource()
	}
}

// stopSource is the end of the pre-copy: the source stands still with the rest to be sent.
func (t *transfer) stopSource() {
	w := t.p.w
	w.stop(t.p.name, w.hosts[t.p.name].vms[t.m.VM], hypervisor.Moving)
	t.phase = switchover
	w.event(t.p.name, t.m.VM, "MIGRATION", "pre-switchover")
}

func (t *transfer) end(phase, problem string) {
	if t.phase != completed && t.phase != failed {
		t.phase, t.problem = phase, problem
	}
}

// fail ends a transfer as QEMU does: the source runs on by itself.
func (w *World) fail(source *process, problem string) {
	t := source.transfer
	late := t.phase == postCopy // then neither side has all of the guest: it is lost
	t.end(failed, problem)
	source.transfer = nil
	w.event(t.p.name, t.m.VM, "MIGRATION", failed)
	if source.state == hypervisor.Moving && !late {
		w.run(t.p.name, source)
	}
}

func (t *transfer) call(ctx context.Context, name string, do func(source *process) error) error {
	return t.p.move(ctx, "Transfer."+name, t.m, func(h *host) error {
		v, err := h.vm(t.m.VM)
		if err != nil {
			return err
		}
		return do(v)
	})
}

// Progress implements hypervisor.Transfer.
func (t *transfer) Progress(ctx context.Context) (g hypervisor.Progress, err error) {
	err = t.p.call(ctx, "Transfer.Progress", t.m.VM, func(*host) error {
		bandwidth, dirty := t.rates()
		g = hypervisor.Progress{
			Phase: t.phase, Transferred: uint64(t.sent), Remaining: uint64(t.remaining), Total: t.m.Shape.Memory.Total(),
			DirtyRate: dirty, Bandwidth: bandwidth, Passes: t.passes + 1, Throttle: t.limits.Throttle, Problem: t.problem,
		}
		return nil
	})
	return g, err
}

// Limit implements hypervisor.Transfer.
func (t *transfer) Limit(ctx context.Context, l hypervisor.Limits) error {
	return t.call(ctx, "Limit", func(*process) error {
		if l.StopNow && !t.postCopy {
			return fmt.Errorf("post-copy was not readied: %w", hypervisor.ErrNotHere)
		}
		t.limits = l
		t.converge()
		return nil
	})
}

// Switchover implements hypervisor.Transfer.
func (t *transfer) Switchover(ctx context.Context) error {
	if err := t.call(ctx, "Switchover", func(*process) error { return nil }); err != nil {
		return err
	}
	return t.p.w.await(ctx, t.p.manager, t.p.name, func() (bool, error) {
		if t.phase == switchover {
			return true, nil
		}
		return false, t.failure()
	})
}

func (t *transfer) failure() error {
	if t.phase == failed || t.phase == cancelled {
		return errors.New("transfer " + t.phase + ": " + t.problem)
	}
	return nil
}

// Complete implements hypervisor.Transfer.
func (t *transfer) Complete(ctx context.Context) error {
	return t.call(ctx, "Complete", func(source *process) error {
		w := t.p.w
		if err := t.failure(); err != nil {
			return err
		}
		if t.phase == completed {
			return nil
		}
		d := w.hosts[t.to].vms[t.m.VM]
		if d == nil || t.broken {
			w.fail(source, "the destination is gone")
			return t.failure()
		}
		switch t.phase {
		case switchover:
			w.stop(t.to, d, hypervisor.Paused)
			d.life = source.life
		case postCopy: // the destination may run already
		default:
			return fmt.Errorf("complete move of %s: the transfer is %s", t.m.VM, t.phase)
		}
		d.whole = true
		t.sent += t.remaining
		t.remaining = 0
		t.finished(source)
		return nil
	})
}

// finished leaves the source as a process that must not run again.
func (t *transfer) finished(source *process) {
	t.phase = completed
	t.p.w.stop(t.p.name, source, hypervisor.Moved)
	source.transfer = nil
	t.p.w.event(t.p.name, t.m.VM, "MIGRATION", completed)
	t.p.w.event(t.to, t.m.VM, "MIGRATION", completed)
}

// PostCopy implements hypervisor.Transfer.
func (t *transfer) PostCopy(ctx context.Context) error {
	return t.call(ctx, "PostCopy", func(source *process) error {
		w := t.p.w
		if err := t.failure(); err != nil {
			return err
		}
		d := w.hosts[t.to].vms[t.m.VM]
		switch {
		case t.phase == postCopy || t.phase == completed:
			return nil
		case !t.postCopy:
			return fmt.Errorf("post-copy was not readied: %w", hypervisor.ErrNotHere)
		case t.phase != switchover:
			return fmt.Errorf("post-copy of %s: the transfer is %s", t.m.VM, t.phase)
		case d == nil || t.broken:
			w.fail(source, "the destination is gone")
			return t.failure()
		}
		t.phase = postCopy
		source.whole = false // what it has not sent is in no one place any more
		d.state, d.life = hypervisor.Paused, source.life
		return nil
	})
}

// Cancel implements hypervisor.Transfer.
func (t *transfer) Cancel(ctx context.Context) error {
	return t.call(ctx, "Cancel", func(source *process) error {
		switch t.phase {
		case completed, postCopy:
			return fmt.Errorf("cancel move of %s: the transfer is %s", t.m.VM, t.phase)
		case failed, cancelled:
			return nil
		}
		t.end(cancelled, "cancelled")
		source.transfer = nil
		if source.state == hypervisor.Moving {
			t.p.w.run(t.p.name, source)
		}
		// Its listener has lost the stream it was fed from.
		t.p.w.kill(t.to, t.m.VM)
		return nil
	})
}
