package pipeline

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline/share"
)

// Limits are what a scheduler has to share.
type Limits struct {
	// Workers is how many computing functions may run at once; 0 means as many as the process has processors.
	Workers int
	// Memory in flight in bytes, Bandwidth in bytes a second; 0 is without limit.
	Memory    int64
	Bandwidth int64
}

// planEvery is how often grants follow measurements.
const planEvery = 100 * time.Millisecond

// Scheduler runs the pipelines of a process.
type Scheduler struct {
	mu        sync.Mutex
	options   Limits
	began     time.Time
	pipelines []*Pipeline // that run, in the order they started
	busy      int         // workers
	held      int64       // bytes in flight
	turns     share.Turns // at the workers
	sending   share.Turns
	bucket    *share.Bucket

	plan    share.Plan
	planned time.Duration // when
	timer   *time.Timer   // for the next plan, nil while idle
	worked  bool          // something began since the last plan
	wake    *time.Timer   // for the next token
	wakeAt  time.Duration
}

// NewScheduler returns one without pipelines. It needs no closing.
func NewScheduler(l Limits) *Scheduler {
	if l.Workers <= 0 {
		l.Workers = runtime.GOMAXPROCS(0)
	}
	s := &Scheduler{options: l, began: time.Now(), bucket: share.NewBucket(nil)}
	s.bucket.Set(0, float64(l.Bandwidth))
	return s
}

// SetBandwidth changes the bandwidth that all pipelines share; 0 is without limit.
func (s *Scheduler) SetBandwidth(bytesPerSecond int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Bandwidth = bytesPerSecond
	s.bucket.Set(s.now(), float64(bytesPerSecond))
	s.allocate()
	s.dispatch()
}

// SetBandwidth changes the most that this pipeline may send; 0 is no limit of its own.
func (p *Pipeline) SetBandwidth(bytesPerSecond int64) {
	s := p.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	p.options.Bandwidth = bytesPerSecond
	s.allocate()
	s.dispatch()
}

// now is the scheduler's clock, which does not go back.
func (s *Scheduler) now() time.Duration { return time.Since(s.began) }

func (s *Scheduler) join(p *Pipeline) {
	s.pipelines = append(s.pipelines, p)
	s.allocate()
}

func (s *Scheduler) leave(p *Pipeline) {
	// Of a pipeline that failed, results may stand back that nobody will let out.
	s.held -= p.held
	p.held = 0
	s.pipelines = slices.DeleteFunc(s.pipelines, func(other *Pipeline) bool { return other == p })
	s.allocate()
}

// dispatch starts everything that can be started. It is called after every change.
func (s *Scheduler) dispatch() {
	s.feed()
	for s.busy < s.options.Workers {
		n := s.choose()
		if n == nil {
			break
		}
		s.start(n)
		s.feed()
	}
	s.arm()
}

// feed starts what needs no worker, as long as one makes room for another. Memory goes to those within their grants
// first, so that who borrows gets what is left.
func (s *Scheduler) feed() {
	for s.pass(false) || s.send(false) || s.pass(true) || s.send(true) {
	}
}

// pass starts waiting stages and moves on what stands in inlets. It reports whether there was anything.
func (s *Scheduler) pass(borrow bool) (did bool) {
	for _, p := range s.pipelines {
		// What is furthest on first: it frees memory.
		for _, n := range slices.Backward(p.nodes) {
			for n.pushed && n.pass(borrow) {
				did = true
			}
			for n.options.Waits && !n.options.Sends && n.runnable(borrow) {
				s.start(n)
				did = true
			}
		}
	}
	return did
}

// send starts the sending stage whose turn it is, if any may send now.
func (s *Scheduler) send(borrow bool) bool {
	now := s.now()
	var best *node
	for _, p := range s.pipelines {
		n := p.sender(borrow)
		if n == nil {
			continue
		}
		if wait := p.bucket.Wait(now); wait > 0 {
			if at := now + wait; s.wakeAt == 0 || at < s.wakeAt {
				s.wakeAt = at
			}
			continue
		}
		if best == nil || s.sending.Virtual(&p.sent) < s.sending.Virtual(&best.pipeline.sent) {
			best = n
		}
	}
	if best == nil {
		return false
	}
	p, bytes := best.pipeline, float64(best.head())
	p.bucket.Take(now, bytes)
	s.sending.Serve(&p.sent)
	p.sent.Charge(bytes, p.grant.Bandwidth)
	s.start(best)
	return true
}

func (p *Pipeline) sender(borrow bool) *node {
	for _, n := range slices.Backward(p.nodes) {
		if n.options.Sends && n.runnable(borrow) {
			return n
		}
	}
	return nil
}

// choose finds the computing stage whose turn it is, by the turns of the pipelines and then of their stages.
func (s *Scheduler) choose() *node {
	for _, borrow := range []bool{false, true} {
		var best *node
		for _, p := range s.pipelines {
			if best != nil && s.turns.Virtual(&best.pipeline.account) <= s.turns.Virtual(&p.account) {
				continue
			}
			if n := p.next(borrow); n != nil {
				best = n
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

func (p *Pipeline) next(borrow bool) (best *node) {
	for _, n := range slices.Backward(p.nodes) {
		if n.options.Waits || !n.runnable(borrow) {
			continue
		}
		if best == nil || p.stages.Virtual(&n.account) < p.stages.Virtual(&best.account) {
			best = n
		}
	}
	return best
}

// start makes one call of a stage.
func (s *Scheduler) start(n *node) {
	p := n.pipeline
	began := s.now()
	// The worker is charged for what the call will take before it is known, or all free workers would go to one stage.
	var charged float64
	if !n.options.Waits {
		s.busy++
		charged = n.cost.Seconds()
		s.turns.Serve(&p.account)
		p.stages.Serve(&n.account)
		p.charge(n, charged)
	}
	n.running++
	p.calls++
	p.live++
	s.worked = true
	call := n.take()
	go func() {
		settle := call()
		s.mu.Lock()
		defer s.mu.Unlock()
		took := s.now() - began
		n.running--
		p.calls--
		n.busy += took
		n.lately.busy += took
		if !n.options.Waits {
			s.busy--
			p.charge(n, took.Seconds()-charged)
		}
		if err := settle(); err != nil {
			n.errors++
			if p.err == nil && p.ctx.Err() != nil { // the stage says no more than that it was told to stop
				p.fail(context.Cause(p.ctx))
			}
			p.fail(fmt.Errorf("pipeline %s: %s: %w", p.name, n.name(), err))
		}
		if p.failed() {
			p.drop() // what this call still put out
		}
		p.finish()
		s.dispatch()
	}()
}

// charge books a worker's time on the pipeline and the stage.
func (p *Pipeline) charge(n *node, seconds float64) {
	granted := 0.0
	for _, other := range p.nodes {
		if !other.options.Waits {
			granted += other.granted
		}
	}
	p.account.Charge(seconds, granted)
	n.account.Charge(seconds, n.granted)
}

// arm sets the timers that are needed, and no others.
func (s *Scheduler) arm() {
	if s.worked && s.timer == nil {
		s.planned = s.now()
		s.timer = time.AfterFunc(planEvery, s.tick)
	}
	if s.wakeAt == 0 {
		return
	}
	wait := max(0, s.wakeAt-s.now())
	s.wakeAt = 0
	if s.wake != nil {
		s.wake.Stop()
	}
	s.wake = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dispatch()
	})
}

// tick makes the next plan. It stops by itself when nothing has begun since the last one.
func (s *Scheduler) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	active := s.worked || s.busy > 0
	s.worked = false
	if active && len(s.pipelines) > 0 {
		s.measure()
		s.allocate()
		s.timer = time.AfterFunc(planEvery, s.tick)
	}
	s.dispatch()
}
