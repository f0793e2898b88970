package slice

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestShares lets flows that always want more compete: what each gets is in proportion to its
// weight, whatever the sizes of its requests are.
func TestShares(t *testing.T) {
	for _, tc := range []struct {
		weights []int64
		sizes   []int64
		idle    int // this flow stops half way, -1 for none
	}{
		{[]int64{1, 1}, []int64{4096, 4096}, -1},
		{[]int64{3, 1}, []int64{512 << 10, 512 << 10}, -1},
		{[]int64{1, 5, 2}, []int64{512 << 10, 4096, 64 << 10}, -1},
		{[]int64{100, 1}, []int64{8192, 512 << 10}, -1},
		{[]int64{2, 1, 1}, []int64{65536, 65536, 65536}, 0},
	} {
		t.Run(fmt.Sprint(tc.weights, tc.sizes), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			q := newTurns[int](depth)
			served := make([]float64, len(tc.weights))
			var running []int
			for id, w := range tc.weights {
				q.setWeight(id, w)
			}
			cost := func(id int) int64 { return 1 + r.Int64N(2*tc.sizes[id]) }
			pending := make([]int64, len(tc.weights)) // cost of the one queued
			for id := range tc.weights {
				pending[id] = cost(id)
				if q.ask(id, pending[id], id) {
					running = append(running, id)
				}
			}
			half := make([]float64, len(served))
			const steps = 400000
			for i := range steps {
				// The device is fair to what it was given: first in, first out.
				id := running[0]
				running = running[1:]
				served[id] += float64(pending[id])
				if i == steps/2 {
					copy(half, served)
				}
				if id == tc.idle && i > steps/2 {
					if next, ok := q.done(id); ok {
						running = append(running, next)
					}
					continue
				}
				pending[id] = cost(id)
				running = append(running, q.again(id, pending[id], id))
			}
			var sum, weights float64
			for id := range served {
				if id != tc.idle {
					sum, weights = sum+served[id]-half[id], weights+float64(tc.weights[id])
				}
			}
			for id := range served {
				want := sum * float64(tc.weights[id]) / weights
				if got := served[id] - half[id]; id != tc.idle && math.Abs(got/want-1) > 0.05 {
					t.Errorf("flow %d got %.0f, its share is %.0f", id, got, want)
				}
			}
		})
	}
}

// TestTurnsKeepBusy checks that no turn is left unused while somebody waits, and that everybody's
// comes.
func TestTurnsKeepBusy(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	q := newTurns[int](depth)
	for id := range 4 {
		q.setWeight(id, 1+r.Int64N(9))
	}
	owner := map[int]int{} // request → flow
	var running []int
	waiting := map[int]bool{}
	for i := range 20000 {
		if len(running) == 0 || r.IntN(2) == 0 && len(waiting) < 50 {
			id := r.IntN(4)
			owner[i] = id
			if q.ask(id, 1+r.Int64N(1000), i) {
				running = append(running, i)
			} else {
				waiting[i] = true
			}
		} else {
			k := r.IntN(len(running))
			ended := running[k]
			running = append(running[:k], running[k+1:]...)
			if next, ok := q.done(owner[ended]); ok {
				if !waiting[next] {
					t.Fatalf("request %d got a turn it did not wait for", next)
				}
				delete(waiting, next)
				running = append(running, next)
			}
		}
		if len(running) > depth || len(running) < depth && len(waiting) > 0 {
			t.Fatalf("%d turns are running, %d wait", len(running), len(waiting))
		}
	}
}
