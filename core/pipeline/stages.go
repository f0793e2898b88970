package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Stage says how a stage's function is to be called. The zero value is a computing stage that may run on every worker.
type Stage struct {
	Name string
	// Waits: the function mostly waits, for a disk or the network, and takes no worker.
	Waits bool
	// Sends: its items' bytes are taken from the bandwidth before it is called. Such a stage waits.
	Sends bool
	// Ordered: it puts out in the order in which items came in.
	Ordered bool
	// Limit is how many calls may run at once. 0 means 1 for a source, 8 for a stage that waits, and no limit of
	// its own otherwise.
	Limit int
	// Queue is how many items may stand before it; 0 means 16.
	Queue int
}

const (
	defaultQueue = 16
	defaultWaits = 8
)

// Flow is what a stage puts out, to be given to exactly one other: [Map], [Expand], [Each], [Split] or [Merge].
type Flow[T any] struct {
	pipeline *Pipeline
	outlets  []*outlet[T]
}

// outlet is where a stage's output leaves it; the next stage fills in the sink.
type outlet[T any] struct {
	of string
	to sink[T]
}

func newOutlet[T any](p *Pipeline, of string) *outlet[T] {
	o := &outlet[T]{of: of}
	p.check(func() error {
		if o.to == nil {
			return errors.New("the output of " + of + " goes nowhere")
		}
		return nil
	})
	return o
}

func (f Flow[T]) connect(to sink[T]) {
	for _, o := range f.outlets {
		if o.to != nil {
			f.pipeline.check(func() error { return errors.New("the output of " + o.of + " goes to two stages") })
		}
		o.to = to
	}
}

// From adds a source. next is called whenever there is room for what it returns, and ends the source with io.EOF,
// not wrapped. Its context ends when the pipeline drains, and next may then return that context's error.
func From[T any](p *Pipeline, o Stage, next func(context.Context) (T, error)) Flow[T] {
	if o.Limit == 0 {
		o.Limit = 1
	}
	o.Sends = false // what it will bring is not known before
	n := p.add(o)
	out := newOutlet[T](p, o.Name)
	n.source, n.open = true, true
	n.ready = func() bool { return n.open }
	n.room = func() bool { return out.to.room() }
	n.fill = func() (float64, float64) { return 1, out.to.fill() }
	n.take = func() work {
		place := n.order.enter()
		out.to.reserve(1)
		return func() settle {
			v, err := next(p.sources)
			return func() error {
				var it item[T]
				if err == nil {
					size := bytesOf(v)
					n.count(size)
					n.busy -= idleFor(v)
					it = item[T]{value: v, credit: p.take(size)}
				}
				n.leave(place, func() {
					out.to.reserve(-1)
					if err == nil {
						out.to.put(it)
					}
				})
				// Only io.EOF itself is the end: one in a chain is a connection that broke off.
				if err == io.EOF || p.draining && errors.Is(err, context.Canceled) { //nolint:errorlint
					n.close()
					return nil
				}
				return err
			}
		}
	}
	return Flow[T]{p, []*outlet[T]{out}}
}

// Map adds a stage that makes one item of each.
func Map[T, U any](in Flow[T], o Stage, fn func(context.Context, T) (U, error)) Flow[U] {
	return Expand(in, o, func(ctx context.Context, v T) ([]U, error) {
		u, err := fn(ctx, v)
		return []U{u}, err
	})
}

// Expand adds a stage that makes any number of items of each. They share its memory credit.
func Expand[T, U any](in Flow[T], o Stage, fn func(context.Context, T) ([]U, error)) Flow[U] {
	n := in.pipeline.add(o)
	out := newOutlet[U](in.pipeline, o.Name)
	n.room = func() bool { return out.to.room() }
	step(in, n, fn, func(n int) { out.to.reserve(n) }, func(it item[U]) { out.to.put(it) }, func() float64 { return out.to.fill() })
	return Flow[U]{in.pipeline, []*outlet[U]{out}}
}

// Each adds a last stage. When its function returns the item is through, and its credit free.
func Each[T any](in Flow[T], o Stage, fn func(context.Context, T) error) {
	n := in.pipeline.add(o)
	n.room = func() bool { return true }
	step(in, n, func(ctx context.Context, v T) ([]struct{}, error) { return nil, fn(ctx, v) },
		func(int) {}, func(item[struct{}]) {}, func() float64 { return 0 })
}

// step is what all stages with an input do. The functions at the end are those of the output.
func step[T, U any](in Flow[T], n *node, fn func(context.Context, T) ([]U, error), reserve func(int), put func(item[U]), fill func() float64) {
	p := in.pipeline
	q := &queue[T]{limit: n.options.Queue, node: n}
	in.connect(q)
	n.ready = func() bool { return len(q.items) > 0 }
	n.head = func() int64 { return bytesOf(q.items[0].value) }
	n.queued = func() int { return len(q.items) }
	n.fill = func() (float64, float64) { return q.fill(), fill() }
	n.drop = q.drop
	n.take = func() work {
		it := q.pop()
		place := n.order.enter()
		reserve(1)
		return func() settle {
			made, err := fn(p.ctx, it.value)
			return func() error {
				if err != nil {
					made = nil
				} else {
					n.count(bytesOf(it.value))
				}
				if len(made) == 1 && it.credit.holders == 1 {
					if size := bytesOf(made[0]); size > 0 {
						it.credit.resize(size)
					}
				}
				it.credit.holders += len(made)
				it.credit.release()
				n.leave(place, func() {
					reserve(-1)
					for _, v := range made {
						put(item[U]{value: v, credit: it.credit})
					}
				})
				return err
			}
		}
	}
}

// Split sends each item one of n ways, by the number that route returns; what is out of range goes the last way. route is
// called under the scheduler's lock: it looks at the item and nothing else.
func Split[T any](in Flow[T], n int, route func(T) int) []Flow[T] {
	s := &split[T]{route: route}
	in.connect(s)
	var flows []Flow[T]
	for i := range n {
		o := newOutlet[T](in.pipeline, fmt.Sprintf("way %d of a split", i))
		s.ways = append(s.ways, o)
		flows = append(flows, Flow[T]{in.pipeline, []*outlet[T]{o}})
	}
	return flows
}

// Merge lets several flows of one pipeline go the same way.
func Merge[T any](flows ...Flow[T]) Flow[T] {
	var all Flow[T]
	for _, f := range flows {
		all.pipeline = f.pipeline
		all.outlets = append(all.outlets, f.outlets...)
	}
	return all
}
