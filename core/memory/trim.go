package memory

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	started = 5 * time.Second // after which what the start needed is free
	period  = time.Minute     // less than the two minutes after which Go collects, and keeps, the garbage of an idle process
	// quiet is how much a process may have allocated in a period, in bytes, to count as idle. A busy one would want
	// its memory back at once.
	quiet = 4 << 20
)

// Trim gives the kernel back what this process's heap does not use: soon after the start, and then every minute in
// which the process had little to do, and lets it collect its garbage early until it is busy. Go by itself lets the
// heap of an idle process grow to several MiB. Trim returns when done is closed.
func Trim(done <-chan struct{}) {
	var t trimmer
	th := newThrift()
	defer th.stop()
	timer := time.NewTimer(started)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-timer.C:
			if t.due(allocated()) {
				th.start()
				debug.FreeOSMemory()
			}
			timer.Reset(period)
		}
	}
}

// trimmer knows when a process is idle. The zero value is that of a process that has just started.
type trimmer struct {
	looked    bool
	allocated uint64
}

// due takes how much was ever allocated, in bytes.
func (t *trimmer) due(allocated uint64) bool {
	idle := !t.looked || allocated-t.allocated < quiet
	t.looked, t.allocated = true, allocated
	return idle
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
