package pipeline

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// numbers is a source of 0 to n-1.
func numbers(n int) func(context.Context) (int, error) {
	next := 0
	return func(context.Context) (int, error) {
		if next == n {
			return 0, io.EOF
		}
		next++
		return next - 1, nil
	}
}

// collect keeps what arrives.
type collect[T any] struct {
	mu  sync.Mutex
	got []T
}

func (c *collect[T]) add(_ context.Context, v T) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, v)
	return nil
}

// block is an item that takes memory.
type block struct {
	no   int
	data []byte
}

func (b block) Bytes() int64 { return int64(len(b.data)) }

// Real work through a graph with everything in it, on every worker: each block arrives once, with its checksum right.
func TestRealWork(t *testing.T) {
	const items = 2000
	s := NewScheduler(Limits{Workers: 4, Memory: 1 << 20})
	p := s.New("work", Options{})
	next := numbers(items)
	var worst atomic.Int64
	in := From(p, Stage{Name: "read", Waits: true}, func(ctx context.Context) (block, error) {
		n, err := next(ctx)
		return block{n, slices.Repeat([]byte{byte(n)}, 4096)}, err
	})
	summed := Map(in, Stage{Name: "sum"}, func(_ context.Context, b block) (block, error) {
		s.mu.Lock()
		worst.Store(max(worst.Load(), s.held))
		s.mu.Unlock()
		return block{b.no, fmt.Appendf(nil, "%d:%08x", b.no, crc32.ChecksumIEEE(b.data))}, nil
	})
	ways := Split(summed, 2, func(b block) int { return b.no % 2 })
	odd := Map(ways[1], Stage{Name: "odd", Waits: true}, func(_ context.Context, b block) (string, error) { return string(b.data), nil })
	even := Expand(ways[0], Stage{Name: "even"}, func(_ context.Context, b block) ([]string, error) {
		return []string{string(b.data), "again " + string(b.data)}, nil
	})
	var out collect[string]
	Each(Merge(odd, even), Stage{Name: "keep", Limit: 3}, out.add)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range items {
		line := fmt.Sprintf("%d:%08x", n, crc32.ChecksumIEEE(slices.Repeat([]byte{byte(n)}, 4096)))
		want = append(want, line)
		if n%2 == 0 {
			want = append(want, "again "+line)
		}
	}
	slices.Sort(want)
	slices.Sort(out.got)
	if !slices.Equal(out.got, want) {
		t.Errorf("%d lines came out, want %d", len(out.got), len(want))
	}
	if s.held != 0 || s.fair.Busy != 0 {
		t.Errorf("%d bytes and %d workers are held after the end", s.held, s.fair.Busy)
	}
	if worst.Load() > 1<<20+4096 {
		t.Errorf("%d bytes were in flight", worst.Load())
	}
}

func TestOrderedKeepsOrder(t *testing.T) {
	s := NewScheduler(Limits{Workers: 4})
	p := s.New("ordered", Options{})
	in := From(p, Stage{Name: "count"}, numbers(1000))
	// The later ones of each four are done first.
	mixed := Map(in, Stage{Name: "mix", Ordered: true, Waits: true, Limit: 4}, func(_ context.Context, n int) (int, error) {
		yield((4 - n%4) * 20)
		return n, nil
	})
	var out collect[int]
	Each(mixed, Stage{Name: "keep", Limit: 1}, out.add)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(out.got) != 1000 || !slices.IsSorted(out.got) {
		t.Errorf("%d came out, in order: %t", len(out.got), slices.IsSorted(out.got))
	}
}

func TestFirstErrorEndsIt(t *testing.T) {
	boom := errors.New("boom")
	s := NewScheduler(Limits{Workers: 2, Memory: 1 << 16})
	for _, c := range []struct{ name, in, want string }{
		{"of a source", "read", "pipeline failing: read: boom"},
		{"of a stage", "work", "pipeline failing: work: boom"},
		{"of the last", "keep", "pipeline failing: keep: boom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := s.New("failing", Options{})
			fail := func(stage string, n int) error {
				if stage == c.in && n == 20 {
					return boom
				}
				return nil
			}
			n := 0
			in := From(p, Stage{Name: "read"}, func(context.Context) (block, error) {
				n++
				return block{n, make([]byte, 100)}, fail("read", n)
			})
			out := Map(in, Stage{Name: "work", Ordered: true}, func(_ context.Context, b block) (block, error) { return b, fail("work", b.no) })
			Each(out, Stage{Name: "keep"}, func(ctx context.Context, b block) error {
				if b.no == 7 && c.in != "keep" {
					<-ctx.Done() // is told that the others have failed
				}
				return fail("keep", b.no)
			})
			err := p.Run(t.Context())
			if !errors.Is(err, boom) || err.Error() != c.want {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if s.held != 0 || len(s.pipelines) != 0 {
				t.Errorf("%d bytes and %d pipelines are left", s.held, len(s.pipelines))
			}
		})
	}
}

func TestCancel(t *testing.T) {
	s := NewScheduler(Limits{Workers: 1})
	p := s.New("endless", Options{})
	reason := errors.New("the operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	in := From(p, Stage{Name: "read"}, func(context.Context) (int, error) { return 0, nil })
	started := sync.OnceFunc(func() { cancel(reason) })
	Each(in, Stage{Name: "wait", Waits: true}, func(ctx context.Context, _ int) error {
		started()
		<-ctx.Done()
		return ctx.Err()
	})
	if err := p.Run(ctx); !errors.Is(err, reason) {
		t.Errorf("error %v, want the cause", err)
	}
	if err := p.Run(t.Context()); err == nil {
		t.Error("a pipeline ran twice")
	}
}

// Drain lets what is in go through, also when the source is in the middle of waiting.
func TestDrain(t *testing.T) {
	s := NewScheduler(Limits{Workers: 1})
	p := s.New("drained", Options{})
	gave := make(chan struct{}, 1)
	n := 0
	in := From(p, Stage{Name: "wait", Waits: true}, func(ctx context.Context) (int, error) {
		if n++; n > 10 {
			gave <- struct{}{}
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return n, nil
	})
	var out collect[int]
	Each(Map(in, Stage{Name: "work"}, func(_ context.Context, n int) (int, error) { return n, nil }), Stage{Name: "keep", Limit: 1}, out.add)
	done := make(chan error)
	go func() { done <- p.Run(t.Context()) }()
	<-gave
	p.Drain()
	if err := <-done; err != nil || len(out.got) != 10 {
		t.Errorf("error %v, %d items came through", err, len(out.got))
	}
	early := s.New("drained before it began", Options{})
	Each(From(early, Stage{Name: "never"}, func(context.Context) (int, error) { panic("called") }), Stage{Name: "keep"}, out.add)
	early.Drain()
	if err := early.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

// Only io.EOF itself ends a source well: one in a chain is a connection that broke off. While draining, so does the error of
// the context that ended, and no other.
func TestEndOfASource(t *testing.T) {
	broken := errors.New("the disk is broken")
	for what, c := range map[string]struct {
		err   error
		drain bool
		want  error
	}{
		"at its end":              {io.EOF, false, nil},
		"broken off":              {fmt.Errorf("get object 3: %w", io.EOF), false, io.EOF},
		"draining":                {context.Canceled, true, nil},
		"draining, in a chain":    {fmt.Errorf("wait: %w", context.Canceled), true, nil},
		"draining, with an error": {broken, true, broken},
	} {
		p := NewScheduler(Limits{Workers: 1}).New("p", Options{})
		calls := make(chan struct{}, 1)
		in := From(p, Stage{Name: "read", Waits: true}, func(ctx context.Context) (int, error) {
			if c.drain {
				calls <- struct{}{}
				<-ctx.Done()
			}
			return 0, c.err
		})
		Each(in, Stage{Name: "keep"}, func(context.Context, int) error { return nil })
		done := make(chan error)
		go func() { done <- p.Run(t.Context()) }()
		if c.drain {
			<-calls
			p.Drain()
		}
		if err := <-done; !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: error %v, want %v", what, err, c.want)
		}
	}
}

func TestGraphErrors(t *testing.T) {
	s := NewScheduler(Limits{})
	nothing := func(context.Context, int) error { return nil }
	for want, build := range map[string]func(*Pipeline){
		"it has no stages":                func(*Pipeline) {},
		"the output of read goes nowhere": func(p *Pipeline) { From(p, Stage{Name: "read"}, numbers(1)) },
		"the output of read goes to two stages": func(p *Pipeline) {
			f := From(p, Stage{Name: "read"}, numbers(1))
			Each(f, Stage{}, nothing)
			Each(f, Stage{}, nothing)
		},
		"the output of way 1 of a split goes nowhere": func(p *Pipeline) {
			Each(Split(From(p, Stage{Name: "read"}, numbers(1)), 2, func(int) int { return 0 })[0], Stage{}, nothing)
		},
	} {
		p := s.New("bad", Options{})
		build(p)
		if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// yield lets the others go first, n times.
func yield(n int) {
	for range n {
		runtime.Gosched()
	}
}

func TestNoMoreWorkersThanAllowed(t *testing.T) {
	s := NewScheduler(Limits{Workers: 3})
	var now, most atomic.Int32
	work := func(_ context.Context, n int) (int, error) {
		m := now.Add(1)
		for old := most.Load(); m > old && !most.CompareAndSwap(old, m); old = most.Load() {
		}
		yield(50)
		now.Add(-1)
		return n, nil
	}
	var all sync.WaitGroup
	for i := range 3 {
		p := s.New(fmt.Sprint(i), Options{})
		in := From(p, Stage{Name: "read"}, numbers(200))
		var out collect[int]
		Each(Map(Map(in, Stage{Name: "a"}, work), Stage{Name: "b"}, work), Stage{Name: "keep"}, out.add)
		all.Go(func() {
			if err := p.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() != 3 {
		t.Errorf("%d functions ran at once, want 3", most.Load())
	}
}
