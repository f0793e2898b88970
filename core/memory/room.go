package memory

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// room is how much garbage the heap may hold before it is collected. A percentage alone, which is what Go has, makes
// a process whose heap is small collect it all the time: with 6 MiB that live and 30 %, after every 1.8 MiB.
type room struct {
	percent int
	least   uint64 // bytes
	set     func(percent int) int
	heap    func() (live, percent uint64) // bytes, and what is set

	mu  sync.Mutex
	now int // percent, set by us
}

// KeepRoom has the heap of this process hold garbage of so many percent of what lives in it, and of so many bytes at
// least. It is looked after with each collection; a percentage that somebody else has set, as Trim does for an idle
// process, stays as it is. It is called once.
func KeepRoom(percent int, least uint64) {
	r := &room{percent: percent, least: least, set: debug.SetGCPercent, heap: heap, now: percent}
	debug.SetGCPercent(percent)
	r.collected()
}

// collected is called after each collection.
func (r *room) collected() {
	r.mu.Lock()
	defer r.mu.Unlock()
	live, percent := r.heap()
	// To set it stops the world.
	if want := r.wanted(live); int(percent) == r.now && (want > r.now+r.now/8 || want < r.now-r.now/8) {
		r.set(want)
		r.now = want
	}
	runtime.AddCleanup(new([64]byte), (*room).collected, r)
}

// wanted is the percentage for a heap; nothing lives in one that was never collected.
func (r *room) wanted(live uint64) int {
	const most = 1000
	if live == 0 {
		return r.percent
	}
	return max(r.percent, int(min(most, r.least*100/live)))
}

func heap() (live, percent uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	for i := range s {
		if s[i].Value.Kind() != metrics.KindUint64 {
			return 0, 0
		}
	}
	return s[0].Value.Uint64(), s[1].Value.Uint64()
}
