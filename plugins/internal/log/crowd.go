package log

import (
	"slices"
	"sync"
	"time"
)

// crowd gives turns to those who want to flush. One has the turn and flushes for all; the rest wait
// to be served by it, or to get the next turn.
//
// Clients that were answered at the same time come back at about the same time. Without a
// moment's patience the first one's flush would begin with its record alone, and the others would
// wait for it and for one more. So who has the turn waits for as many as the last flush served,
// but never longer than a part of what a sync takes; with one client nothing waits.
type crowd struct {
	mu      sync.Mutex
	taken   bool // somebody has the turn
	ahead   bool // it is nobody's who flushes
	waiters []*waiter
	wanted  int           // as many as the last flush served
	come    chan struct{} // they are there

	// Of the one that has the turn.
	timer *time.Timer
	sync  time.Duration // about what one takes
}

type waiter struct {
	pos, mark int64
	verdict   chan verdict // one, buffered
}

// verdict is how waiting ends: with the turn, or with a flush by another.
type verdict struct {
	lead bool
	err  error
}

// maxGather bounds the patience, whatever the disk is like.
const maxGather = 250 * time.Microsecond

func newCrowd() crowd {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return crowd{come: make(chan struct{}, 1), timer: t}
}

// join gives the caller the turn, or something to wait with.
func (c *crowd) join(pos, mark int64) (w *waiter, lead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.taken {
		c.taken = true
		return nil, true
	}
	w = &waiter{pos: pos, mark: mark, verdict: make(chan verdict, 1)}
	c.waiters = append(c.waiters, w)
	if len(c.waiters)+1 == c.wanted {
		select {
		case c.come <- struct{}{}:
		default:
		}
	}
	return w, false
}

// idle takes the turn if nobody has it and nobody but a single client flushes.
func (c *crowd) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken || c.wanted > 1 {
		return false
	}
	c.taken, c.ahead = true, true
	return true
}

// desert ends a waiter's waiting. told means that it had a verdict already.
func (c *crowd) desert(w *waiter) (v verdict, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiters, w); i >= 0 {
		c.waiters = slices.Delete(c.waiters, i, i+1)
		return v, false
	}
	return <-w.verdict, true
}

// gather waits for those whom the last flush served. The caller has the turn.
func (c *crowd) gather() {
	c.mu.Lock()
	missing := len(c.waiters)+1 < c.wanted
	select { // an old message
	case <-c.come:
	default:
	}
	c.mu.Unlock()
	if !missing {
		return
	}
	c.timer.Reset(min(c.sync/2, maxGather))
	select {
	case <-c.come:
		c.timer.Stop()
	case <-c.timer.C:
	}
}

// over ends a turn: who is served by it is told how it went, and the first of the others has the
// next one.
func (c *crowd) over(served func(*waiter) (bool, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.waiters[:0]
	for _, w := range c.waiters {
		if ok, err := served(w); ok {
			w.verdict <- verdict{err: err}
		} else {
			rest = append(rest, w)
		}
	}
	c.wanted = len(c.waiters) - len(rest)
	if !c.ahead {
		c.wanted++ // who had the turn
	}
	c.ahead = false
	clear(c.waiters[len(rest):])
	c.waiters = rest
	if c.taken = len(rest) > 0; c.taken {
		rest[0].verdict <- verdict{lead: true}
		c.waiters = slices.Delete(rest, 0, 1)
	}
}

// took is how long the sync was.
func (c *crowd) took(d time.Duration) { c.sync += (d - c.sync) / 8 }
