package memory

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestRoom(t *testing.T) {
	const mib = 1 << 20
	set, live := 30, uint64(0)
	sets := 0
	r := &room{
		percent: 30, least: 8 * mib, now: 30,
		set:  func(p int) int { old := set; set = p; sets++; return old },
		heap: func() (uint64, uint64) { return live, uint64(set) },
	}
	for _, c := range []struct {
		name    string
		live    uint64
		other   int // set by somebody else before
		percent int
	}{
		{"never collected", 0, 0, 30},
		{"a tiny heap", 100 << 10, 0, 1000},
		{"a small heap", 4 * mib, 0, 200},
		{"a little more is not worth it", 4*mib + mib/4, 0, 200},
		{"twice as much", 8 * mib, 0, 100},
		{"a large heap", 100 * mib, 0, 30},
		{"a small one again", 4 * mib, 0, 200},
		{"somebody else", 8 * mib, 25, 25},
		{"still somebody else", 4 * mib, 0, 25},
		{"given back", 8 * mib, 200, 100},
	} {
		live = c.live
		if c.other != 0 {
			set = c.other
		}
		r.collected()
		if set != c.percent {
			t.Errorf("%s: %d %%, want %d", c.name, set, c.percent)
		}
	}
	if sets != 6 {
		t.Errorf("set %d times", sets)
	}
}

// TestKeepRoom collects for real.
func TestKeepRoom(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	KeepRoom(30, 64<<20)
	runtime.GC()
	live, percent := heap()
	if live == 0 || percent <= 30 {
		t.Errorf("%d bytes live, %d %%", live, percent)
	}
}
