package volume

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// TestReadAhead tells the policy of reads and sees what it has fetched. Cells fetched ahead are hits later, if
// the script says that they are read.
func TestReadAhead(t *testing.T) {
	datadriven.RunTest(t, "testdata/readahead.txt", func(t *testing.T, d *datadriven.TestData) string {
		a := &readAhead{limit: 16}
		var out strings.Builder
		for _, line := range strings.Split(d.Input, "\n") {
			var op string
			var first, last uint64
			if _, err := fmt.Sscan(line, &op, &first, &last); err != nil {
				t.Fatalf("%s: %q: %v", d.Pos, line, err)
			}
			for cell := first; cell <= last; cell++ {
				var from, n uint64
				switch op {
				case "miss":
					from, n = a.miss(cell, cell)
				case "hit":
					a.used(1)
					from, n = a.hit(cell)
				case "waste": // a reader that jumps: two misses in a row, then somewhere else
					a.miss(cell*1000, cell*1000)
					from, n = a.miss(cell*1000+1, cell*1000+1)
				}
				if n > 0 && op != "waste" {
					fmt.Fprintf(&out, "%s %d: fetch %d to %d\n", op, cell, from, from+n-1)
				}
			}
		}
		return out.String()
	})
}

// TestTail picks places for the tail.
func TestTail(t *testing.T) {
	var p progress
	p.init(mark{confirmed: log.Cursor{Pos: 100, Seq: 1}}, 0, log.Cursor{Pos: 100, Seq: 1}, nil)
	for pos := int64(200); pos <= 1000; pos += 100 {
		p.place(log.Cursor{Pos: pos})
	}
	for _, tc := range []struct{ want, limit, tail int64 }{
		{150, 1000, 200},   // the first place that frees enough
		{400, 1000, 400},   // exactly
		{900, 450, 400},    // not past what is confirmed
		{5000, 1000, 1000}, // as far as there are places
		{150, 150, 100},    // nothing
	} {
		if got := p.tail(tc.want, tc.limit); got.Pos != tc.tail {
			t.Errorf("want %d, limit %d: tail %d, should be %d", tc.want, tc.limit, got.Pos, tc.tail)
		}
	}
	p.passed(log.Cursor{Pos: 500})
	if got := p.known(100); len(got) != 6 || got[0].Pos != 500 || got[5].Pos != 1000 {
		t.Errorf("after the tail has passed: %v", got)
	}
	for pos := int64(1100); pos < 1000000; pos += 100 {
		p.place(log.Cursor{Pos: pos})
	}
	if got := p.known(maxPlaces); len(got) > maxPlaces || got[0].Pos != 500 {
		t.Errorf("%d places are kept from %v on", len(got), got[0])
	}
}

// TestCleanerLook looks as often as a stride is full, and on large disks as often as a replay gets long.
func TestCleanerLook(t *testing.T) {
	for _, tc := range []struct{ size, want int64 }{{32 << 20, 1 << 20}, {2 << 30, 64 << 20}, {1 << 40, 64 << 20}} {
		var c cleaner
		if c.init(tc.size); c.look != tc.want {
			t.Errorf("log of %d MiB: looks every %d KiB, should every %d", tc.size>>20, c.look>>10, tc.want>>10)
		}
	}
}

// TestCleanerPlan frees before the log is full, and enough for a while.
func TestCleanerPlan(t *testing.T) {
	var c cleaner
	c.init(3200 << 10)
	for _, tc := range []struct{ free, want int64 }{
		{1000 << 10, 0}, {200 << 10, 0}, {199 << 10, 101 << 10}, {0, 300 << 10},
	} {
		if got := c.plan(tc.free); got != tc.want {
			t.Errorf("%d KiB free: frees %d KiB, should %d KiB", tc.free>>10, got>>10, tc.want>>10)
		}
	}
}
