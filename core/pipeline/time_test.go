package pipeline

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// These run on a fake clock: what takes time sleeps.

// endless adds a pipeline with one computing and one waiting stage and runs it until the test's context ends.
func endless(t *testing.T, s *Scheduler, name string, o Options, size int, compute, wait time.Duration, sends bool) *node {
	p := s.New(name, o)
	in := From(p, Stage{Name: "read"}, func(context.Context) (block, error) { return block{data: make([]byte, size)}, nil })
	packed := Map(in, Stage{Name: "pack"}, func(ctx context.Context, b block) (block, error) {
		time.Sleep(compute)
		return b, nil
	})
	Each(packed, Stage{Name: "put", Waits: true, Sends: sends}, func(context.Context, block) error {
		time.Sleep(wait)
		return nil
	})
	begin(t, p)
	return p.nodes[2]
}

// begin runs a pipeline until the test ends, or the pipeline.
func begin(t *testing.T, p *Pipeline) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(t.Context())
	}()
	t.Cleanup(func() { <-done })
}

// during counts what a stage does in a while.
func during(s *Scheduler, d time.Duration, n ...*node) []float64 {
	before := make([]uint64, len(n))
	s.mu.Lock()
	for i := range n {
		before[i] = n[i].items
	}
	s.mu.Unlock()
	time.Sleep(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	rates := make([]float64, len(n))
	for i := range n {
		rates[i] = float64(n[i].items-before[i]) / d.Seconds()
	}
	return rates
}

func wantRates(t *testing.T, what string, got []float64, want ...float64) {
	t.Helper()
	for i := range want {
		if math.Abs(got[i]-want[i]) > 0.03*want[i]+0.5 {
			t.Errorf("%s: rates %.1f, want %.1f", what, got, want)
			return
		}
	}
}

func TestWorkersByWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 4})
		cheap := endless(t, s, "cheap", Options{Weight: 3}, 0, 2*time.Millisecond, time.Millisecond, false)
		dear := endless(t, s, "dear", Options{}, 0, 10*time.Millisecond, time.Millisecond, false)
		time.Sleep(time.Second)
		// Three workers of 500/s, one of 100/s.
		wantRates(t, "3:1", during(s, 10*time.Second, cheap, dear), 1500, 100)
	})
}

func TestWorkersGoToWhoCanUseThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 4})
		busy := endless(t, s, "busy", Options{}, 0, 10*time.Millisecond, time.Millisecond, false)
		p := s.New("now and then", Options{})
		in, flow := Inlet[int](p, Stage{Name: "push"})
		Each(flow, Stage{Name: "work"}, func(context.Context, int) error { time.Sleep(10 * time.Millisecond); return nil })
		begin(t, p)
		time.Sleep(time.Second)
		wantRates(t, "alone", during(s, 5*time.Second, busy), 400)
		for range 10 {
			start := time.Now()
			if err := in.Put(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			for s.Snapshot().Pipelines[1].Held != 0 {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(start); took > 25*time.Millisecond {
				t.Errorf("one item among many of another pipeline took %v", took)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

func TestBandwidthByWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 8, Bandwidth: 1e6})
		a := endless(t, s, "a", Options{Weight: 3}, 1000, time.Microsecond, time.Microsecond, true)
		b := endless(t, s, "b", Options{}, 1000, time.Microsecond, time.Microsecond, true)
		time.Sleep(2 * time.Second)
		wantRates(t, "3:1", during(s, 5*time.Second, a, b), 750, 250)
		s.SetBandwidth(2e6)
		time.Sleep(2 * time.Second)
		wantRates(t, "twice as much", during(s, 5*time.Second, a, b), 1500, 500)
		a.pipeline.SetBandwidth(1e5)
		time.Sleep(2 * time.Second)
		wantRates(t, "a ceiling for one", during(s, 5*time.Second, a, b), 100, 1900)
		a.pipeline.Drain()
		time.Sleep(time.Second)
		wantRates(t, "alone", during(s, 5*time.Second, b), 2000)
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 8, Memory: 100_000})
		endless(t, s, "slow", Options{}, 1000, time.Microsecond, time.Second, false)
		endless(t, s, "capped", Options{Memory: 5000}, 1000, time.Microsecond, time.Second, false)
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			for _, p := range s.Snapshot().Pipelines {
				if p.Name == "capped" && p.Held > 6000 {
					t.Fatalf("%d bytes held, at most 5000 and one item", p.Held)
				}
			}
			if held := s.Snapshot().Held; held > 102_000 {
				t.Fatalf("%d bytes held, at most 100000 and an item a source", held)
			}
		}
	})
}

// Nothing runs, ticks or is counted while there is nothing to do.
func TestIdleSchedulerHasNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 1})
		p := s.New("idle", Options{})
		in, flow := Inlet[int](p, Stage{Name: "push"})
		Each(flow, Stage{Name: "work"}, func(context.Context, int) error { return nil })
		begin(t, p)
		synctest.Wait()
		in.Offer(1)
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.timer != nil || s.wake != nil {
			t.Error("a timer is set")
		}
	})
}

func TestInlet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 2})
		p := s.New("pushed", Options{})
		in, flow := Inlet[block](p, Stage{Name: "push", Queue: 4})
		if in.Offer(block{}) {
			t.Error("an item went into a pipeline that does not run")
		}
		hold := make(chan struct{})
		var out collect[block]
		Each(flow, Stage{Name: "keep", Queue: 1, Limit: 1}, func(ctx context.Context, b block) error {
			<-hold
			return out.add(ctx, b)
		})
		done := make(chan error)
		go func() { done <- p.Run(t.Context()) }()
		synctest.Wait()
		n := 0
		for in.Offer(block{n, make([]byte, 400)}) {
			n++
		}
		// One in work, one before it, four in the inlet.
		if n != 6 {
			t.Errorf("%d items went in, want 6", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := in.Put(ctx, block{}); !errors.Is(err, context.Canceled) {
			t.Errorf("Put of a cancelled context: %v", err)
		}
		put := make(chan error)
		go func() { put <- in.Put(t.Context(), block{n, nil}) }()
		synctest.Wait()
		close(hold)
		if err := <-put; err != nil {
			t.Error(err)
		}
		in.Close()
		if err := <-done; err != nil || len(out.got) != n+1 {
			t.Errorf("error %v, %d items came through, want %d", err, len(out.got), n+1)
		}
		if err := in.Put(t.Context(), block{}); !errors.Is(err, ErrEnded) {
			t.Errorf("Put after the end: %v", err)
		}
	})
}

// What is lent and does not come back, because a store is silent, does not take a pipeline's own part of its grant.
func TestOwnMemoryIsNotLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 8, Memory: 90_000})
		for range 2 {
			p := s.New("stuck", Options{})
			in := From(p, Stage{Name: "read"}, func(context.Context) (block, error) { return block{data: make([]byte, 1000)}, nil })
			Each(in, Stage{Name: "put", Sends: true, Queue: 100}, func(ctx context.Context, _ block) error {
				<-ctx.Done()
				return ctx.Err()
			})
			begin(t, p)
		}
		time.Sleep(time.Second)
		if held := s.Snapshot().Held; held < 90_000 {
			t.Fatalf("%d bytes are held, want all", held)
		}
		late := endless(t, s, "late", Options{}, 1000, time.Microsecond, 10*time.Millisecond, false)
		time.Sleep(time.Second)
		// All eight calls, not one item after the other.
		wantRates(t, "beside two that hold all memory", during(s, 5*time.Second, late), 800)
		if held := s.Snapshot().Held; held > 135_000+3000 {
			t.Errorf("%d bytes held, at most one and a half times 90000 and an item a source", held)
		}
	})
}

// The calls of a source that run count as the items that they will bring.
func TestSourceCallsCountAsItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 1, Memory: 4000})
		p := s.New("eager", Options{})
		in := From(p, Stage{Name: "read", Waits: true, Limit: 16}, func(context.Context) (block, error) {
			time.Sleep(10 * time.Millisecond)
			return block{data: make([]byte, 1000)}, nil
		})
		Each(in, Stage{Name: "keep", Waits: true, Limit: 4, Queue: 64}, func(context.Context, block) error {
			time.Sleep(5 * time.Millisecond)
			return nil
		})
		begin(t, p)
		time.Sleep(time.Second) // before its first item, nothing is known of their size
		for range 1000 {
			time.Sleep(time.Millisecond)
			if held := s.Snapshot().Held; held > 5000 {
				t.Fatalf("%d bytes held, at most 4000 and one item", held)
			}
		}
	})
}

// The first item of a newcomer is charged at the little that it was granted before it had sent anything; at the grant that
// follows it is not waited for.
func TestNewcomerAtTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 1, Bandwidth: 1 << 20})
		first := endless(t, s, "first", Options{}, 256<<10, time.Microsecond, time.Millisecond, true)
		time.Sleep(5 * time.Second)
		second := endless(t, s, "second", Options{}, 256<<10, time.Microsecond, time.Millisecond, true)
		time.Sleep(2 * time.Second)
		wantRates(t, "from the third second on", during(s, 10*time.Second, first, second), 2, 2)
	})
}

// Two stages of one pipeline that send share the line.
func TestTwoStagesThatSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, limits := range map[string]struct {
			all Limits
			own Options
		}{"line": {Limits{Workers: 1, Bandwidth: 100_000}, Options{}}, "ceiling of its own": {Limits{Workers: 1}, Options{Bandwidth: 100_000}}} {
			s := NewScheduler(limits.all)
			p := s.New(name, limits.own)
			for range 2 {
				in := From(p, Stage{Name: "read"}, func(context.Context) (block, error) { return block{data: make([]byte, 1000)}, nil })
				Each(in, Stage{Name: "send", Sends: true}, func(context.Context, block) error { return nil })
			}
			begin(t, p)
			time.Sleep(time.Second)
			wantRates(t, name, during(s, 5*time.Second, p.nodes[1], p.nodes[3]), 50, 50)
			p.Drain()
		}
	})
}

// While one item takes long in a late stage and none comes in, what is known of the pipeline stays as it was.
func TestEstimatesOutlastAStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 2, Memory: 1 << 20})
		endless(t, s, "busy", Options{}, 1000, 40*time.Millisecond, time.Millisecond, false)
		p := s.New("slow", Options{})
		in, flow := Inlet[block](p, Stage{Name: "want"})
		hold := make(chan struct{})
		Each(flow, Stage{Name: "put", Waits: true, Limit: 1}, func(context.Context, block) error {
			<-hold
			return nil
		})
		begin(t, p)
		synctest.Wait()
		in.Offer(block{data: make([]byte, 1000)})
		time.Sleep(15 * time.Minute)
		close(hold)
		time.Sleep(time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if got := p.share(p.nodes[1]); got < 0.5 || got > 2 {
			t.Errorf("put gets %g items for each that comes in, want about 1", got)
		}
		for _, g := range s.plan.Grants {
			for _, n := range append([]float64{g.Rate, g.Memory}, g.Workers...) {
				if math.IsNaN(n) || math.IsInf(n, 0) {
					t.Fatalf("grant %+v", g)
				}
			}
		}
	})
}

// Closing the only source ends a pipeline in which nothing is left to do.
func TestCloseOfAnIdleInlet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewScheduler(Limits{Workers: 1}).New("pushed", Options{})
		in, flow := Inlet[int](p, Stage{Name: "push"})
		Each(flow, Stage{Name: "keep"}, func(context.Context, int) error { return nil })
		done := make(chan error, 1)
		go func() { done <- p.Run(t.Context()) }()
		synctest.Wait()
		in.Offer(1)
		synctest.Wait()
		in.Close()
		synctest.Wait()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Fatal("it has not ended")
		}
	})
}

// awaited is an item that took a second to come, of which its source worked a tenth.
type awaited struct{}

func (awaited) Idle() time.Duration { return 900 * time.Millisecond }

// TestIdleSourceIsNotBusy: what a source waits for something to do is not its work, and tells how much it will offer.
func TestIdleSourceIsNotBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewScheduler(Limits{Workers: 1})
		p := s.New("lazy", Options{})
		in := From(p, Stage{Name: "cut", Waits: true}, func(context.Context) (awaited, error) {
			time.Sleep(time.Second)
			return awaited{}, nil
		})
		Each(in, Stage{Name: "keep", Waits: true}, func(context.Context, awaited) error { return nil })
		begin(t, p)
		time.Sleep(10500 * time.Millisecond)
		if busy := s.Snapshot().Pipelines[0].Stages[0].Busy; busy != time.Second {
			t.Errorf("busy for %s of ten seconds, want one", busy)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if rate := p.nodes[0].offers(); rate < 1 || rate > 1.5 {
			t.Errorf("offers %g items a second, one comes", rate)
		}
	})
}
