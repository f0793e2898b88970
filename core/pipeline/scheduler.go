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
	pipelines []*Pipeline // that run, in the order they started; fair.Members are theirs
	fair      share.Dispatcher
	held      int64 // bytes in flight
	bucket    *share.Bucket

	plan    share.Plan
	planned time.Duration // when
	timer   *time.Timer   // for the next plan, nil while idle
	worked  bool          // something began since the last plan
	wake    *time.Timer   // for the next token, nil when nobody waits for one
}

// NewScheduler returns one without pipelines. It needs no closing.
func NewScheduler(l Limits) *Scheduler {
	if l.Workers <= 0 {
		l.Workers = runtime.GOMAXPROCS(0)
	}
	s := &Scheduler{options: l, began: time.Now(), bucket: share.NewBucket(nil), fair: share.Dispatcher{Workers: l.Workers}}
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
	s.members()
}

func (s *Scheduler) leave(p *Pipeline) {
	// Of a pipeline that failed, results may stand back that nobody will let out.
	s.held -= p.held
	p.held = 0
	s.pipelines = slices.DeleteFunc(s.pipelines, func(other *Pipeline) bool { return other == p })
	s.members()
}

func (s *Scheduler) members() {
	s.fair.Members = nil
	for _, p := range s.pipelines {
		s.fair.Members = append(s.fair.Members, &p.member)
	}
	s.allocate()
}

// dispatch starts everything that can be started. It is called after every change.
func (s *Scheduler) dispatch() {
	for {
		c, again, ok := s.fair.Next(s.now())
		if !ok {
			s.arm(again)
			return
		}
		n := s.pipelines[c.Member].nodes[c.Seat]
		if n.pass != nil {
			n.pass()
			continue
		}
		s.start(n, c.Seat)
	}
}

// start makes one call of a stage.
func (s *Scheduler) start(n *node, seat int) {
	p := n.pipeline
	began := s.now()
	expected := n.cost.Seconds()
	if !n.options.Waits {
		s.fair.Began(&p.member, seat, expected)
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
			s.fair.Ended(&p.member, seat, took.Seconds()-expected)
		}
		if err := settle(); err != nil {
			if p.err == nil && p.ctx.Err() != nil { // the stage says no more than that it was told to stop
				p.fail(context.Cause(p.ctx))
			}
			p.fail(fmt.Errorf("pipeline %s: %s: %w", p.name, n.options.Name, err))
		}
		if p.err != nil {
			p.drop() // what this call still put out
		}
		p.finish()
		s.dispatch()
	}()
}

// arm sets the timers that are needed, and no others. again is when to look for tokens, 0 for not at all.
func (s *Scheduler) arm(again time.Duration) {
	if s.worked && s.timer == nil {
		s.planned = s.now()
		s.timer = time.AfterFunc(planEvery, s.tick)
	}
	if s.wake != nil {
		s.wake.Stop()
		s.wake = nil
	}
	if again > 0 {
		s.wake = time.AfterFunc(again-s.now(), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.dispatch()
		})
	}
}

// tick makes the next plan. It stops by itself when nothing has begun since the last one.
func (s *Scheduler) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	active := s.worked || s.fair.Busy > 0
	s.worked = false
	if active && len(s.pipelines) > 0 {
		s.measure()
		s.allocate()
		s.timer = time.AfterFunc(planEvery, s.tick)
	}
	s.dispatch()
}
