package slice

// turns decides who writes next: start-time fair queueing over flows with weights. It is a pure
// engine; T is what the caller waits with.
type turns[T any] struct {
	depth   int // how many have their turn at once
	running int
	clock   int64 // virtual: cost per weight that every busy flow has had
	flows   map[int]*flow[T]
	arrival uint64
}

type flow[T any] struct {
	weight  int64
	finish  int64 // virtual time at which its last request ends
	running int
	queue   []request[T]
}

type request[T any] struct {
	start   int64
	arrival uint64 // decides between equals
	who     T
}

// costUnit keeps the division by weights precise.
const costUnit = 1 << 10

func newTurns[T any](depth int) *turns[T] {
	return &turns[T]{depth: depth, flows: make(map[int]*flow[T])}
}

// setWeight makes a flow known, or changes its weight for what comes.
func (t *turns[T]) setWeight(id int, weight int64) {
	if f := t.flows[id]; f != nil {
		f.weight = weight
		return
	}
	t.flows[id] = &flow[T]{weight: weight}
}

// ask is a request of the given cost. It reports whether it is its turn at once; if not, done
// or again returns who some time.
func (t *turns[T]) ask(id int, cost int64, who T) bool {
	if t.running == t.depth {
		t.queue(id, cost, who)
		return false
	}
	// Nobody waits: the queues empty as fast as turns end.
	f := t.flows[id]
	t.clock = max(t.clock, f.finish)
	f.finish = t.clock + cost*costUnit/f.weight
	f.running++
	t.running++
	return true
}

func (t *turns[T]) queue(id int, cost int64, who T) {
	f := t.flows[id]
	start := max(t.clock, f.finish)
	f.finish = start + cost*costUnit/f.weight
	t.arrival++
	f.queue = append(f.queue, request[T]{start, t.arrival, who})
}

// again ends a turn of a flow that wants another one: it competes with those that wait, and may win.
func (t *turns[T]) again(id int, cost int64, who T) (next T) {
	t.queue(id, cost, who)
	next, _ = t.done(id)
	return next
}

// done ends a turn and returns whose is next, if anybody waits.
func (t *turns[T]) done(id int) (next T, ok bool) {
	t.flows[id].running--
	var best *flow[T]
	for _, f := range t.flows {
		if len(f.queue) > 0 && (best == nil || f.queue[0].before(best.queue[0])) {
			best = f
		}
	}
	if best == nil {
		t.running--
		return next, false
	}
	r := best.queue[0]
	best.queue = append(best.queue[:0], best.queue[1:]...)
	best.running++
	t.clock = max(t.clock, r.start)
	return r.who, true
}

// alone reports whether no other flow has or wants a turn.
func (t *turns[T]) alone(id int) bool {
	for other, f := range t.flows {
		if other != id && (f.running > 0 || len(f.queue) > 0) {
			return false
		}
	}
	return true
}

func (r request[T]) before(o request[T]) bool {
	if r.start != o.start {
		return r.start < o.start
	}
	return r.arrival < o.arrival
}
