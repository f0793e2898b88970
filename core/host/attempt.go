package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
	"github.com/ratchetos/ratchet/core/supervise"
)

const (
	// configureTimeout bounds Validate and Configure.
	configureTimeout = 30 * time.Second
	// drainLimit is the part of the stop time that a drain may take.
	drainLimit = 10 * time.Second
	// rewatch is the pause before a Watch stream is opened again.
	rewatch = 250 * time.Millisecond
)

// gate holds the first Start of a plugin back until Apply has compared what all of the new
// ones want.
type gate struct {
	prepared chan []*pluginpb.Want // has room for one
	open     chan struct{}         // closed with err set
	err      error
}

func newGate() *gate {
	return &gate{prepared: make(chan []*pluginpb.Want, 1), open: make(chan struct{})}
}

func (g *gate) release(err error) {
	g.err = err
	close(g.open)
}

// errStopped is the end of an attempt that was told to stop.
var errStopped = errors.New("stopped")

// refusedError is the end of an attempt that need not be repeated with the same configuration.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// attempt is one try to serve, from spawn to the end of its process. A spare is an attempt
// that waits before Start until it is promoted.
type attempt struct {
	unit   *unit
	config config
	ctx    context.Context // ends with the attempt
	cancel context.CancelFunc

	promote chan struct{} // closed: go on, you serve now
	stop    chan struct{} // closed: drain and end
	// handOver says that another process follows; it is set before stop is closed.
	handOver bool

	standing bool     // the spare is ready; owned by the unit's goroutine
	served   *process // set when it serves; owned by the unit's goroutine

	mu      sync.Mutex
	process *process
}

func (u *unit) newAttempt(spare bool) *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{
		unit: u, config: u.currentConfig(), ctx: ctx, cancel: cancel,
		stop: make(chan struct{}),
	}
	if spare {
		a.promote = make(chan struct{})
	}
	return a
}

// current returns the attempt's process, nil before there is one.
func (a *attempt) current() *process {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.process
}

// run goes through the attempt and reports its end once, as soon as the process is gone.
func (a *attempt) run() {
	u := a.unit
	err := a.serve()
	if errors.Is(err, errStopped) {
		err = nil
	}
	p := a.current()
	if p != nil {
		p.kill()
		<-p.exited()
	}
	u.post(func(now time.Time) { u.ended(now, a, err) })
	a.cancel()
	if p != nil {
		p.close()
	}
}

// serve returns when the process is gone or must go.
func (a *attempt) serve() error {
	u := a.unit
	p, err := u.host.spawn(a.ctx, u, a.config.section.Grant)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.process = p
	a.mu.Unlock()
	wants, err := a.prepare(p)
	if err != nil {
		return err
	}
	if a.promote != nil {
		u.post(func(now time.Time) {
			a.standing = true
			u.step(now, supervise.Input{Kind: supervise.SpareUp})
		})
		if err := a.wait(p, a.promote); err != nil {
			return err
		}
	} else if err := a.pass(p, wants); err != nil {
		return err
	}
	if err := a.start(p, wants); err != nil {
		return err
	}
	go a.watch(p)
	return a.wait(p, nil)
}

// prepare brings the process to where only Start is missing.
func (a *attempt) prepare(p *process) ([]*pluginpb.Want, error) {
	ctx, cancel := context.WithTimeout(a.ctx, configureTimeout)
	defer cancel()
	doc := a.config.document()
	v, err := p.rpc.Validate(ctx, doc)
	if err != nil {
		return nil, a.explain(p, "validate", err)
	}
	if err := invalid(a.unit.name, v.GetDiagnostics()); err != nil {
		return nil, &refusedError{err}
	}
	c, err := p.rpc.Configure(ctx, doc)
	if err != nil {
		return nil, a.explain(p, "configure", err)
	}
	if c.GetOutcome() == pluginpb.ConfigureReply_REJECTED {
		return nil, &refusedError{rejected(a.unit.name, c.GetDiagnostics())}
	}
	return v.GetWants(), nil
}

// pass waits at the gate, if there is one.
func (a *attempt) pass(p *process, wants []*pluginpb.Want) error {
	g := a.config.gate
	if g == nil {
		return nil
	}
	select {
	case g.prepared <- wants:
	default: // an attempt before this one has told already
	}
	if err := a.wait(p, g.open); err != nil {
		return err
	}
	if g.err != nil {
		return &refusedError{g.err}
	}
	return nil
}

// start opens what is wanted, hands it over and starts the feature.
func (a *attempt) start(p *process, wants []*pluginpb.Want) error {
	u, h := a.unit, a.unit.host
	if err := u.handles.clear(true); err != nil {
		u.log.Error("release what the last process claimed", "err", err)
	}
	if err := h.claim(a.ctx, u, wants, true); err != nil {
		return &refusedError{err}
	}
	req, err := h.request(u)
	if err != nil {
		return err
	}
	missing, err := u.handles.reconcile(a.ctx, h.resources, req, wants)
	for name, why := range missing {
		u.log.Warn("the plugin starts without something that it wants", "want", name, "why", why)
		u.unclaim(name) // it may claim it later
	}
	if err != nil {
		return err
	}
	epoch, err := u.nextEpoch(a.ctx)
	if err != nil {
		return err
	}
	handles, err := u.handles.send(p.control, time.Now().Add(sendTimeout))
	if err != nil {
		return a.explain(p, "hand over", err)
	}
	if l, ok := u.luggage.take(); ok {
		if err := p.importLuggage(a.ctx, l); err != nil { // clients notice; nothing is lost
			u.log.Warn("the process does not take over what the last one left", "why", a.explain(p, "import", err))
		}
	}
	_, err = p.rpc.Start(a.ctx, &pluginpb.StartRequest{Handles: handles, Epoch: epoch})
	u.handles.sent() // even a failed Start may have written to fresh memory
	if err != nil {
		return a.explain(p, "start", err)
	}
	u.post(func(now time.Time) {
		a.served = p
		u.step(now, supervise.Input{Kind: supervise.Started})
	})
	return nil
}

// wait returns nil when next is closed, and why the attempt is over when it is. A nil next
// never comes.
func (a *attempt) wait(p *process, next <-chan struct{}) error {
	select {
	case <-next:
		return nil
	case <-p.exited():
		return errors.New(p.why())
	case <-a.ctx.Done():
		return a.ctx.Err()
	case <-a.stop:
		a.end(p)
		return errStopped
	}
}

// end stops the process in order and keeps what it leaves to the next one.
func (a *attempt) end(p *process) {
	u := a.unit
	limit := u.host.policy.StopTimeout
	ctx, cancel := context.WithTimeout(a.ctx, limit)
	defer cancel()
	p.drain(ctx, min(drainLimit, limit/2))
	if a.handOver && u.program.Descriptor.GetHandover() {
		l, err := p.export(ctx)
		if err != nil {
			u.log.Warn("the process hands nothing over", "why", err)
		}
		u.luggage.put(l)
	}
	if err := p.stop(ctx); err == nil {
		u.handles.settle()
	} else {
		u.log.Warn("the process did not stop in order", "why", err)
	}
}

// watch follows the process's health until the process or the attempt ends.
func (a *attempt) watch(p *process) {
	for {
		stream, err := p.rpc.Watch(a.ctx, &pluginpb.WatchRequest{})
		for err == nil {
			var e *pluginpb.Event
			if e, err = stream.Recv(); err == nil {
				a.unit.post(func(now time.Time) { a.unit.heard(now, a, e) })
			}
		}
		t := time.NewTimer(rewatch)
		select {
		case <-p.exited():
			t.Stop()
			return
		case <-a.ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// heard takes one event of the process that serves.
func (u *unit) heard(now time.Time, a *attempt, e *pluginpb.Event) {
	if a != u.active {
		return
	}
	u.mu.Lock()
	u.view.event = e
	u.mu.Unlock()
	kind := supervise.Healthy
	switch e.GetHealth() {
	case pluginpb.Event_DEGRADED:
		kind = supervise.Unwell
	case pluginpb.Event_FAILED:
		kind = supervise.Broken
	}
	u.step(now, supervise.Input{Kind: kind, Why: e.GetMessage()})
}

// explain makes one error of a failed call: a dead process says more than a closed
// connection does.
func (a *attempt) explain(p *process, verb string, err error) error {
	select {
	case <-p.exited():
		return fmt.Errorf("%s: process ended: %s", verb, p.why())
	default:
	}
	if a.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", verb, a.ctx.Err())
	}
	return fmt.Errorf("%s: %s", verb, strings.TrimPrefix(wire.Plain(err).Error(), verb+": "))
}

func (c config) document() *pluginpb.ConfigDocument {
	return &pluginpb.ConfigDocument{Json: c.section.JSON, Generation: c.generation}
}
