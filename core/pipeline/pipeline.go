package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/core/pipeline/share"
)

// Options of a pipeline; the zero value is one of weight 1 without limits of its own.
type Options struct {
	// Weight against the scheduler's other pipelines; 0 means 1.
	Weight float64
	// Memory is the most bytes in flight, Bandwidth the most bytes a second; 0 for what the scheduler has.
	Memory    int64
	Bandwidth int64
}

// Pipeline is a graph of stages. Its methods may be called by any goroutine.
type Pipeline struct {
	scheduler *Scheduler
	name      string
	options   Options
	nodes     []*node
	checks    []func() error

	// ctx is that of all calls, sources that of next: it ends when the pipeline drains. Both stand in the struct because
	// calls are started by whichever goroutine finds that they can be.
	ctx, sources context.Context
	cancel       context.CancelCauseFunc
	stopSources  context.CancelFunc

	running, draining, started bool
	err                        error
	live                       int // items in queues, calls running, results standing back
	calls                      int // running
	ended                      chan struct{}

	held   int64
	member share.Member
	inflow float64 // items of the sources, older ones fading
}

// New makes an empty pipeline; it has no part of anything until it runs.
func (s *Scheduler) New(name string, o Options) *Pipeline {
	return &Pipeline{
		scheduler: s, name: name, options: o, ended: make(chan struct{}),
		member: share.Member{Bucket: share.NewBucket(s.bucket)},
	}
}

func (p *Pipeline) add(o Stage) *node {
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	o.Waits = o.Waits || o.Sends
	if o.Waits && o.Limit <= 0 {
		o.Limit = defaultWaits
	}
	n := &node{pipeline: p, options: o, order: order{keep: o.Ordered}, queued: func() int { return 0 }}
	p.nodes = append(p.nodes, n)
	p.member.Seats = append(p.member.Seats, &share.Seat{
		Waits: o.Waits, Sends: o.Sends, Runnable: n.runnable, Head: func() float64 { return float64(n.head()) },
	})
	return n
}

func (p *Pipeline) check(fn func() error) { p.checks = append(p.checks, fn) }

func (p *Pipeline) validate() error {
	errs := make([]error, 0, len(p.checks))
	for _, c := range p.checks {
		errs = append(errs, c())
	}
	if len(p.nodes) == 0 {
		errs = append(errs, errors.New("it has no stages"))
	}
	return errors.Join(errs...)
}

// Run lets items through until all sources have ended and everything has left the last stage; it then returns nil.
// The first error of a stage ends it early, as does the end of ctx, with its cause. A pipeline runs once.
func (p *Pipeline) Run(ctx context.Context) error {
	if err := p.validate(); err != nil {
		return fmt.Errorf("pipeline %s: %w", p.name, err)
	}
	s := p.scheduler
	s.mu.Lock()
	if p.started {
		s.mu.Unlock()
		return fmt.Errorf("pipeline %s has run already", p.name)
	}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	defer p.cancel(nil)
	p.sources, p.stopSources = context.WithCancel(p.ctx)
	defer p.stopSources()
	p.started, p.running = true, true
	s.join(p)
	if p.draining { // before it began
		p.drain()
	}
	s.dispatch()
	p.finish()
	s.mu.Unlock()

	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.fail(context.Cause(ctx))
		p.finish()
		s.dispatch()
	})
	defer stop()
	<-p.ended
	return p.err
}

// Drain ends the sources and lets what is in the pipeline go through; Run then returns nil.
func (p *Pipeline) Drain() {
	s := p.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	p.draining = true
	if p.running {
		p.drain()
		p.finish()
		s.dispatch()
	}
}

func (p *Pipeline) drain() {
	p.stopSources()
	for _, n := range p.nodes {
		if n.source && n.open {
			n.close()
		}
	}
}

// fail ends the pipeline early. Only the first reason counts.
func (p *Pipeline) fail(err error) {
	if p.err != nil || !p.running {
		return
	}
	p.err = err
	p.cancel(err)
	for _, n := range p.nodes {
		n.close()
	}
	p.drop()
}

// drop empties all queues.
func (p *Pipeline) drop() {
	for _, n := range p.nodes {
		if n.drop != nil {
			n.drop()
		}
	}
}

// finish ends the pipeline when there is nothing left to do.
func (p *Pipeline) finish() {
	if !p.running || p.calls > 0 {
		return
	}
	if p.err == nil {
		if p.live > 0 {
			return
		}
		for _, n := range p.nodes {
			if n.open {
				return
			}
		}
	}
	p.running = false
	p.scheduler.leave(p)
	close(p.ended)
}
