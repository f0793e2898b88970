package memory

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// frugal is the percentage of garbage that an idle process collects at, where Go's default is 100: its heap is
	// then a quarter larger than what lives in it, and not twice as large.
	frugal = 25
	// So many collections in so short a time say that a frugal process has become busy: it would soon spend more on
	// collecting than memory is worth.
	hurried = 4
	haste   = time.Second
)

// thrift lets a process be frugal while it is idle. It ends at once when the process becomes busy, which is seen by
// the collections themselves: nobody has to look often.
type thrift struct {
	set func(percent int) int // debug.SetGCPercent

	mu     sync.Mutex
	on     bool
	normal int // the percentage to go back to
	watch  pulse
}

// start makes the process frugal until it is busy.
func (t *thrift) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.on {
		return
	}
	t.on, t.watch = true, pulse{}
	t.normal = t.set(frugal)
	t.arm()
}

// arm has collected called after the next collection: of the object that nobody holds.
func (t *thrift) arm() {
	runtime.AddCleanup(new([64]byte), func(t *thrift) { t.collected(time.Now()) }, t)
}

func (t *thrift) collected(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.on:
	case t.watch.busy(now):
		t.end()
	default:
		t.arm()
	}
}

// stop makes it as it was.
func (t *thrift) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

func (t *thrift) end() {
	if t.on {
		t.on = false
		t.set(t.normal)
	}
}

// pulse knows when a process collects so often that it must be busy. The zero value is that of an idle one.
type pulse struct {
	at [hurried]time.Time // of the last collections, a ring
	n  int
}

// busy takes the time of a collection.
func (p *pulse) busy(now time.Time) bool {
	oldest := p.at[p.n%hurried]
	p.at[p.n%hurried] = now
	p.n++
	return p.n > hurried && now.Sub(oldest) < haste
}

// newThrift is that of the running process.
func newThrift() *thrift { return &thrift{set: debug.SetGCPercent} }
