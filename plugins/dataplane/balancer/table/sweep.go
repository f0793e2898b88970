package table

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

// Timeouts after which a flow without packets is forgotten. Zero is the default. The clock of half-open flows
// comes round in 270 s, that of the others in 73 minutes: longer ones cannot be told from shorter.
type Timeouts struct {
	HalfOpen    time.Duration // 10 s; at most 4 minutes
	Established time.Duration // 1 h; at most 1 h
	Brief       time.Duration // 2 min: closing, or UDP; at most 1 h
}

func (t Timeouts) of(s FlowState) time.Duration {
	limit := func(d, standard, most time.Duration) time.Duration {
		if d <= 0 {
			d = standard
		}
		return min(d, most)
	}
	switch s {
	case Established:
		return limit(t.Established, time.Hour, time.Hour)
	case Brief:
		return limit(t.Brief, 2*time.Minute, time.Hour)
	}
	return limit(t.HalfOpen, 10*time.Second, 4*time.Minute)
}

// SweepResult counts what a sweep took out.
type SweepResult struct {
	Idle     int // timed out
	Dead     int // of removed backends
	Returned int // credits of unfinished flows
	Copies   int // entries that a table of another size had left, and that are nobody's
	Left     int
}

// Sweep forgets flows that have timed out, returns the credit of those that were never finished, and frees the
// ids of removed backends. Call it about once a second; a walk through 65,536 entries takes well below 1 ms.
func (t *Table) Sweep(to Timeouts) SweepResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sweep(to)
}

func (t *Table) sweep(to Timeouts) SweepResult {
	now := bpf.Now()
	var r SweepResult
	var limits [4]time.Duration
	for s := range limits {
		limits[s] = to.of(FlowState(s))
	}
	done := func(e packed) bool {
		switch {
		case !t.alive(e):
			r.Dead++
		case e.idle(now) > limits[e.state()]:
			r.Idle++
		default:
			r.Left++
			return false
		}
		return true
	}
	for line := range t.shared.flows.Elems {
		entries := &t.shared.flows.Elems[line].Entry
		for slot := range entries {
			e := packed(atomic.LoadUint64(&entries[slot]))
			// A packet may come between: then the entry is not what timed out.
			if e != 0 && done(e) && atomic.CompareAndSwapUint64(&entries[slot], uint64(e), 0) {
				r.Returned += t.finish(e)
			}
		}
	}
	r.Copies = t.dropCopies(now)
	r.Left -= r.Copies
	t.sweepOverflow(done, &r)
	t.freeBackends()
	return r
}

func (t *Table) sweepOverflow(done func(packed) bool, r *SweepResult) {
	if t.before != nil {
		return // the count is of both, and the program in force may have the other one
	}
	var gone []uint64
	var left uint64
	seen := atomic.LoadUint64(&t.control().Overflowed)
	for hash, e := range t.overflow() {
		if !done(e) {
			left++
			continue
		}
		r.Returned += t.finish(e)
		gone = append(gone, hash)
	}
	for _, hash := range gone {
		_ = t.loaded.Maps["overflow"].Delete(hash) // the program takes none out
	}
	// What it has put in since then is on top of what was counted.
	atomic.AddUint64(&t.control().Overflowed, left-seen)
}

// finish returns the credit of a flow that was never one.
func (t *Table) finish(e packed) int {
	if !e.credited() || !e.halfOpen() || !t.alive(e) {
		return 0
	}
	c := &t.shared.credits.Elems[e.backend()]
	for {
		dispatched := atomic.LoadUint64(&c.Dispatched)
		if dispatched <= atomic.LoadUint64(&c.Floor) { // see return_credit in bpf/lb/credit.h
			return 0
		}
		if atomic.CompareAndSwapUint64(&c.Dispatched, dispatched, dispatched-1) {
			atomic.AddUint64(&c.Returned, 1)
			return 1
		}
	}
}

// freeBackends gives ids of removed backends back, but for those that a ring still names.
func (t *Table) freeBackends() {
	if len(t.retiredBackends) == 0 {
		return
	}
	named := make(map[BackendID]bool)
	for id := range t.shared.vips.Elems {
		if v := &t.shared.vips.Elems[id]; v.Used != 0 {
			for _, b := range t.ring(v) {
				named[b] = true
			}
		}
	}
	t.retiredBackends = slices.DeleteFunc(t.retiredBackends, func(id BackendID) bool { return !named[id] })
}
