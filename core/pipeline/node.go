package pipeline

import (
	"time"

	"github.com/ratchetos/ratchet/core/pipeline/share"
)

// work is one call of a stage's function, made without the lock; settle then tells what came of it, under the lock.
type (
	work   func() settle
	settle func() error
)

// node is a stage without its types. Everything is under the scheduler's lock.
type node struct {
	pipeline *Pipeline
	options  Stage

	ready  func() bool              // there is something to work on
	room   func() bool              // and a place for what comes of it
	take   func() work              // takes it
	head   func() int64             // its size
	queued func() int               // how much there is
	fill   func() (in, out float64) // how full the queues before and after are
	drop   func()                   // forget what is queued
	pass   func()                   // an inlet's, instead of take: move one item on
	closed func()                   // an inlet's: tell those who wait

	source  bool
	open    bool // a source that has not ended
	running int
	order   order

	// since the pipeline started
	items, bytes uint64
	busy, waited time.Duration
	// since the last plan
	lately measured
	cost   share.Cost
	flow   float64 // items, older ones fading
	rate   float64 // items a second, for people
}

// measured in one interval.
type measured struct {
	items int
	busy  time.Duration
}

// count tells of one item that has been worked on.
func (n *node) count(bytes int64) {
	n.items++
	n.bytes += uint64(bytes)
	n.lately.items++
}

// leave lets out what became of the item at a place.
func (n *node) leave(place uint64, out func()) {
	n.order.leave(place, func() {
		n.pipeline.live--
		out()
	})
}

// close ends a source.
func (n *node) close() {
	n.open = false
	if n.closed != nil {
		n.closed()
	}
}

// limit is how many calls may run at once.
func (n *node) limit() int {
	if n.options.Limit > 0 {
		return n.options.Limit
	}
	return n.pipeline.scheduler.options.Workers
}

// runnable reports whether a call could be made, leaving aside workers and bandwidth.
func (n *node) runnable(borrow bool) bool {
	p := n.pipeline
	return p.err == nil && n.running < n.limit() && n.ready() && n.room() && (!n.source || n.admitted(borrow))
}
