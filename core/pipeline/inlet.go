package pipeline

import (
	"context"
	"errors"
)

// ErrEnded means that a pipeline takes no more items: it has not been started, is draining, or has ended.
var ErrEnded = errors.New("pipeline has ended")

// In is the outer end of a source that others push to. Its methods may be called by any number of goroutines.
type In[T any] struct {
	node  *node
	queue []item[T]
	space chan struct{} // closed and replaced when there may be room again
}

// Inlet adds a source that waits for Offer and Put. Of the stage only Name and Queue count.
func Inlet[T any](p *Pipeline, o Stage) (*In[T], Flow[T]) {
	n := p.add(Stage{Name: o.Name, Queue: o.Queue, Waits: true, Limit: 1})
	out := newOutlet[T](p, o.Name)
	in := &In[T]{node: n, space: make(chan struct{})}
	n.source, n.open = true, true
	n.closed = in.wake
	n.ready = func() bool { return len(in.queue) > 0 }
	n.room = func() bool { return out.to.room() }
	n.queued = func() int { return len(in.queue) }
	n.fill = func() (float64, float64) { return float64(len(in.queue)) / float64(n.options.Queue), out.to.fill() }
	n.pass = func() {
		it := in.queue[0]
		in.queue[0] = item[T]{}
		in.queue = in.queue[1:]
		p.live--
		n.waited += p.scheduler.now() - it.since
		size := bytesOf(it.value)
		n.count(size)
		it.credit = p.take(size)
		out.to.put(it)
		in.wake()
	}
	n.drop = func() {
		p.live -= len(in.queue)
		in.queue = nil
		in.wake()
	}
	return in, Flow[T]{p, []*outlet[T]{out}}
}

func (in *In[T]) wake() {
	close(in.space)
	in.space = make(chan struct{})
}

// Offer puts an item in if there is room for it right now.
func (in *In[T]) Offer(v T) bool {
	p := in.node.pipeline
	p.scheduler.mu.Lock()
	defer p.scheduler.mu.Unlock()
	ok, _ := in.offer(v)
	return ok
}

func (in *In[T]) offer(v T) (ok, ended bool) {
	n := in.node
	p := n.pipeline
	if !p.running || !n.open {
		return false, true
	}
	if len(in.queue) >= n.options.Queue {
		return false, false
	}
	p.live++
	in.queue = append(in.queue, item[T]{value: v, since: p.scheduler.now()})
	p.scheduler.dispatch()
	return true, false
}

// Put waits until there is room. It returns ErrEnded when the pipeline takes nothing any more.
func (in *In[T]) Put(ctx context.Context, v T) error {
	s := in.node.pipeline.scheduler
	for {
		s.mu.Lock()
		ok, ended := in.offer(v)
		space := in.space
		s.mu.Unlock()
		switch {
		case ok:
			return nil
		case ended:
			return ErrEnded
		}
		select {
		case <-space:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close ends the source: what was put in before still goes through.
func (in *In[T]) Close() {
	s := in.node.pipeline.scheduler
	s.mu.Lock()
	defer s.mu.Unlock()
	in.node.close()
	in.node.pipeline.finish()
	s.dispatch()
}
