package memory

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	start := time.Now()
	for _, c := range []struct {
		name string
		at   []time.Duration // of collections
		busy bool            // at the last one
	}{
		{"the first one", []time.Duration{0}, false},
		{"every minute", []time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute}, false},
		{"a few at once", []time.Duration{0, 1, 2, 3}, false},
		{"many at once", []time.Duration{0, 1, 2, 3, 4}, true},
		{"as many as may be", []time.Duration{0, haste / 4, haste / 2, haste / 4 * 3, haste}, false},
		{"one more", []time.Duration{0, haste / 4, haste / 2, haste / 4 * 3, haste - 1}, true},
		{"many after a rest", []time.Duration{0, 1, 2, time.Minute, time.Minute + 1, time.Minute + 2, time.Minute + 3, time.Minute + 4}, true},
	} {
		var p pulse
		busy := false
		for _, at := range c.at {
			busy = p.busy(start.Add(at))
		}
		if busy != c.busy {
			t.Errorf("%s: busy %v", c.name, busy)
		}
	}
}

// TestThrift runs the real collector: a frugal process that collects again and again is let go.
func TestThrift(t *testing.T) {
	var percent atomic.Int64
	percent.Store(100)
	ended := make(chan struct{})
	th := &thrift{set: func(p int) int {
		if p == 100 {
			close(ended)
		}
		return int(percent.Swap(int64(p)))
	}}
	th.start()
	th.start() // twice is once
	if got := percent.Load(); got != frugal {
		t.Fatalf("percent %d", got)
	}
	limit := time.After(30 * time.Second)
	for {
		select {
		case <-ended:
			th.stop() // it has ended already
			return
		case <-limit:
			t.Fatal("it is still frugal")
		default:
			runtime.GC()
		}
	}
}

func TestThriftStops(t *testing.T) {
	percent := 80
	th := &thrift{set: func(p int) int { before := percent; percent = p; return before }}
	th.start()
	th.stop()
	th.collected(time.Now()) // the armed one comes late
	if percent != 80 || th.on {
		t.Errorf("percent %d, on %v", percent, th.on)
	}
}
