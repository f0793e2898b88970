package steer

import (
	"slices"
	"testing"
	"time"
)

func TestWeights(t *testing.T) {
	const s = time.Second
	up := func(w uint32) Backend { return Backend{Weight: w, Serving: true, Room: true, Seasoned: true} }
	full := func(w uint32) Backend { return Backend{Weight: w, Serving: true, Seasoned: true} }
	young := func(since time.Duration) Backend { return Backend{Weight: 1, Serving: true, Room: true, Since: since} }
	for _, c := range []struct {
		name     string
		backends []Backend
		want     []uint32
		next     time.Duration
	}{
		{"all serve", []Backend{up(1), up(3)}, []uint32{8, 24}, 0},
		{"drained", []Backend{up(0), up(1)}, []uint32{0, 8}, 0},
		{"down", []Backend{{Weight: 1, Room: true}, up(1)}, []uint32{0, 8}, 0},
		{"one is full", []Backend{full(1), up(1)}, []uint32{0, 8}, 0},
		{"all are full", []Backend{full(1), full(2)}, []uint32{8, 16}, 0},
		{"all are full but one drained", []Backend{full(1), up(0)}, []uint32{8, 0}, 0},
		{"all are down", []Backend{{Weight: 1}, {Weight: 1}}, []uint32{0, 0}, 0},
		{"just begun", []Backend{up(1), young(10 * s)}, []uint32{8, 1}, 11 * s},
		{"half way", []Backend{up(1), young(6500 * time.Millisecond)}, []uint32{8, 4}, 10500 * time.Millisecond},
		{"nearly", []Backend{up(1), young(3001 * time.Millisecond)}, []uint32{8, 7}, 10001 * time.Millisecond},
		{"begun long ago", []Backend{up(1), young(3 * s)}, []uint32{8, 8}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := make([]uint32, len(c.backends))
			if next := Weights(out, c.backends, 10*s, 7*s); next != c.next || !slices.Equal(out, c.want) {
				t.Errorf("%v, next %v; want %v, %v", out, next, c.want, c.next)
			}
		})
	}
}

// Following next from step to step reaches the full weight and ends.
func TestSlowStartEnds(t *testing.T) {
	for _, slow := range []time.Duration{1, 7, 10 * time.Second, 333 * time.Millisecond} {
		b, out := []Backend{{Weight: 5, Serving: true, Room: true, Since: 100}}, []uint32{0}
		now, steps := time.Duration(100), 0
		for last := uint32(0); ; steps++ {
			next := Weights(out, b, now, slow)
			if out[0] < last || steps > Steps+1 {
				t.Fatalf("slow start of %v: weight %d after %d in step %d", slow, out[0], last, steps)
			}
			if last = out[0]; next == 0 {
				break
			}
			if next <= now {
				t.Fatalf("slow start of %v: next step %v is not after %v", slow, next, now)
			}
			now = next
		}
		if out[0] != 5*Steps {
			t.Errorf("slow start of %v ends with weight %d", slow, out[0])
		}
	}
	if Scale(3, 1) != 1 || Scale(80, 4) != 40 || Scale(0, 8) != 0 || Scale(1<<32-1, 8) != 1<<32-1 {
		t.Error("scale")
	}
}
