package pipeline

import "time"

// Sized items take memory credit, and bandwidth where they are sent. Others count as nothing.
type Sized interface {
	// Bytes must not change while the item is in the pipeline.
	Bytes() int64
}

func bytesOf(v any) int64 {
	if s, ok := v.(Sized); ok {
		return max(0, s.Bytes())
	}
	return 0
}

// Awaited items had to be waited for by the source that puts them in.
type Awaited interface {
	// Idle is how much of the source's call that was. It does not count as busy.
	Idle() time.Duration
}

func idleFor(v any) time.Duration {
	if a, ok := v.(Awaited); ok {
		return a.Idle()
	}
	return 0
}

// item is a value on its way.
type item[T any] struct {
	value  T
	credit *credit
	since  time.Duration // in the queue
}

// sink takes what a stage puts out: a queue, or a split before several. All calls are made under the scheduler's lock.
type sink[T any] interface {
	// room reports whether one more item may be started that will be put here.
	room() bool
	// reserve keeps the place of an item that is being worked on, n = 1, or gives it back, n = -1.
	reserve(n int)
	put(item[T])
	// fill is how full it is, 0 to 1.
	fill() float64
}

// queue is what stands before a stage.
type queue[T any] struct {
	items    []item[T]
	limit    int
	reserved int
	node     *node
}

var _ sink[int] = (*queue[int])(nil)

func (q *queue[T]) room() bool    { return len(q.items)+q.reserved < q.limit }
func (q *queue[T]) reserve(n int) { q.reserved += n }

func (q *queue[T]) put(it item[T]) {
	p := q.node.pipeline
	p.live++
	it.since = p.scheduler.now()
	q.items = append(q.items, it)
}

func (q *queue[T]) pop() item[T] {
	it := q.items[0]
	q.items[0] = item[T]{} // the array must not keep it alive
	q.items = q.items[1:]
	q.node.pipeline.live--
	q.node.waited += q.node.pipeline.scheduler.now() - it.since
	return it
}

// fill counts what is here, not what is reserved: a place is kept for as long as the stage before works.
func (q *queue[T]) fill() float64 { return min(1, float64(len(q.items))/float64(q.limit)) }

func (q *queue[T]) drop() {
	for len(q.items) > 0 {
		q.pop().credit.release()
	}
}

// split sends each item one of several ways.
type split[T any] struct {
	ways  []*outlet[T]
	route func(T) int
}

var _ sink[int] = (*split[int])(nil)

// room: nobody knows yet which way an item will go.
func (s *split[T]) room() bool {
	for _, w := range s.ways {
		if !w.to.room() {
			return false
		}
	}
	return true
}

func (s *split[T]) reserve(n int) {
	for _, w := range s.ways {
		w.to.reserve(n)
	}
}

func (s *split[T]) put(it item[T]) {
	n := s.route(it.value)
	if n < 0 || n >= len(s.ways) {
		n = len(s.ways) - 1
	}
	s.ways[n].to.put(it)
}

func (s *split[T]) fill() (f float64) {
	for _, w := range s.ways {
		f = max(f, w.to.fill())
	}
	return f
}
