package libvirt

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
)

// transfer is a Perform3 under way, and what follows from it.
type transfer struct {
	p     *Port // of the source
	m     hypervisor.Move
	d     *departure
	armed armament

	performed chan struct{} // closed when Perform3 has returned, after cookie and err were set
	cookie    []byte
	err       error

	suspended chan struct{} // closed when the source stands still for a post-copy

	mu       sync.Mutex
	stopped  bool // suspended is closed
	postCopy bool // the order to fetch the rest was given
	undone   bool
	ended    chan struct{} // closed when Finish3 has returned, after endErr was set
	endErr   error
	complete bool   // Finish3 was done, and all is well at the destination
	finished []byte // what it says to the source
	last     hypervisor.Progress
}

var _ hypervisor.Transfer = (*transfer)(nil)

// Perform implements hypervisor.Port. Repeated, it returns the transfer that was begun.
func (p *Port) Perform(ctx context.Context, m hypervisor.Move, _ hypervisor.Arrival, o hypervisor.Options) (hypervisor.Transfer, error) {
	x, err := p.perform(ctx, m, o)
	if err != nil {
		return nil, fmt.Errorf("move %s away from %s: %w", m.VM, p.conf.Name, err)
	}
	return x, nil
}

func (p *Port) perform(ctx context.Context, m hypervisor.Move, o hypervisor.Options) (*transfer, error) {
	dom, err := p.active(ctx, m.VM)
	if err != nil {
		return nil, err
	}
	if _, err := p.fenced(ctx, dom, m); err != nil {
		return nil, err
	}
	d, a := p.moves.departure(m.ID, p.conf.Name), p.moves.arrival(m.ID, m.To)
	switch {
	case d == nil:
		return nil, errors.New("the move was not begun here, or the connection it was begun on is gone")
	case d.x != nil && !d.x.failed():
		return d.x, nil
	case a == nil:
		return nil, fmt.Errorf("%s is not prepared, or the connection it was prepared on is gone", m.To)
	}
	want := armament{plain: o.Plain, postCopy: o.PostCopy, channels: o.Channels}
	if want.channels == 1 {
		want.channels = 0
	}
	if want != a.armed {
		if err := a.port.rearm(ctx, m, a, want); err != nil {
			return nil, err
		}
	}
	x := &transfer{p: p, m: m, d: d, armed: want, performed: make(chan struct{}), suspended: make(chan struct{})}
	p.moves.perform(d, x)
	if err := x.prime(ctx, o.Limits); err != nil {
		return nil, err
	}
	go x.run(a, o)
	return x, nil
}

// prime sets what must hold from the first byte on.
func (x *transfer) prime(ctx context.Context, l hypervisor.Limits) error {
	if l.Downtime > 0 {
		if err := x.p.conn.SetDowntime(ctx, x.d.dom, uint64(max(l.Downtime.Milliseconds(), 1))); err != nil {
			return err
		}
	}
	if l.StopNow {
		return x.stop(ctx)
	}
	return nil
}

// mib is a rate as libvirt takes it; what is less than one is one.
func mib(bytes uint64) uint64 { return max(bytes>>20, 1) }

// run calls Perform3, which lasts as long as the transfer.
func (x *transfer) run(a *arrival, o hypervisor.Options) {
	defer close(x.performed)
	params := append(x.armed.params(), remote.Param{Name: remote.ParamURI, Value: a.uri})
	params = append(params, a.ticket.params()...)
	if a.tlsName != "" && !x.armed.plain {
		params = append(params, remote.Param{Name: remote.ParamTLSName, Value: a.tlsName})
	}
	if o.Bandwidth > 0 {
		params = append(params, remote.Param{Name: remote.ParamBandwidth, Value: mib(o.Told())})
	}
	if o.PostCopy && o.Rest > 0 {
		params = append(params, remote.Param{Name: remote.ParamRest, Value: mib(o.Rest)})
	}
	flags := a.ticket.Flags | x.armed.flags()
	if o.Throttle > 0 {
		flags |= remote.MigrateAutoConverge
		params = append(params, remote.Param{Name: remote.ParamThrottle, Value: int32(min(o.Throttle, firstThrottle))},
			remote.Param{Name: remote.ParamThrottleStep, Value: int32(throttleStep)})
	}
	// Without a bound of its own: the daemon gives it up when the connection ends.
	x.cookie, x.err = x.d.conn.MigratePerform(context.Background(), x.d.dom, params, a.cookie, flags)
	if x.err != nil {
		x.err = explain(x.err, x.m.To)
	}
}

// libvirt 9 has no bound for how far it throttles: it begins low, and goes on in small steps.
const firstThrottle, throttleStep = 20, 10

// failed tells that Perform3 has failed, upon which the daemon lets the source run on.
func (x *transfer) failed() bool { return x.over() && x.err != nil }

// over tells that Perform3 has returned.
func (x *transfer) over() bool {
	select {
	case <-x.performed:
		return true
	default:
		return false
	}
}

func (x *transfer) isComplete() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.complete
}

// stop suspends the source, which flushes its disks. The stream goes on, with nothing new to send.
func (x *transfer) stop(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stopped {
		return nil
	}
	if !x.armed.postCopy {
		return fmt.Errorf("stop %s now: post-copy was not readied", x.m.VM)
	}
	if err := x.p.conn.Suspend(ctx, x.d.dom); err != nil {
		return fmt.Errorf("stop %s now: %w", x.m.VM, err)
	}
	x.stopped = true
	close(x.suspended)
	return nil
}

// Limit implements hypervisor.Transfer.
func (x *transfer) Limit(ctx context.Context, l hypervisor.Limits) error {
	err := x.p.conn.SetSpeed(ctx, x.d.dom, speed(l.Told()), false)
	if err == nil && x.armed.postCopy {
		err = x.p.conn.SetSpeed(ctx, x.d.dom, speed(l.Rest), true)
	}
	if err == nil && l.Downtime > 0 {
		err = x.p.conn.SetDowntime(ctx, x.d.dom, uint64(max(l.Downtime.Milliseconds(), 1)))
	}
	if err != nil {
		return fmt.Errorf("limit the move of %s: %w", x.m.VM, err)
	}
	if l.StopNow {
		return x.stop(ctx)
	}
	return nil
}

// speed is a limit as SetSpeed takes it: none is the most that libvirt knows.
func speed(bytes uint64) uint64 {
	if bytes == 0 {
		return 1<<43 - 1
	}
	return mib(bytes)
}

// Switchover implements hypervisor.Transfer.
func (x *transfer) Switchover(ctx context.Context) error {
	select {
	case <-x.performed:
		if x.err != nil {
			return fmt.Errorf("move %s: %w", x.m.VM, x.err)
		}
		return nil
	case <-x.suspended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("move %s: wait for the switchover: %w", x.m.VM, ctx.Err())
	}
}

// PostCopy implements hypervisor.Transfer.
func (x *transfer) PostCopy(ctx context.Context) error {
	x.mu.Lock()
	ready, given := x.stopped, x.postCopy
	x.mu.Unlock()
	if !ready {
		return fmt.Errorf("post-copy of %s: the source was not stopped for it: %w", x.m.VM, hypervisor.ErrNotHere)
	}
	if !given {
		err := x.p.conn.MigratePostCopyNow(ctx, x.d.dom)
		// A stopped guest is soon sent whole: then there is nothing left to be fetched.
		if err != nil && x.sent(ctx) != nil {
			return fmt.Errorf("post-copy of %s: %w", x.m.VM, err)
		}
		x.mu.Lock()
		x.postCopy = true
		x.mu.Unlock()
	}
	return x.sent(ctx)
}

// sent waits until Perform3 has returned.
func (x *transfer) sent(ctx context.Context) error {
	select {
	case <-x.performed:
		if x.err != nil {
			return fmt.Errorf("move %s: %w", x.m.VM, x.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("move %s: wait for the stream: %w", x.m.VM, ctx.Err())
	}
}
