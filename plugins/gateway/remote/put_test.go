package remote

import (
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
)

// TestPutAhead puts the objects of many batches in any order, while others are committed and compacted, and commits them in
// theirs.
func TestPutAhead(t *testing.T) {
	s := testStore(t)
	r := attach(t, s, "us", Local{})
	const n = 60
	var batches []*Batch
	for seq := uint64(1); seq <= n; seq++ {
		batches = append(batches, batch(t, r, seq, byte(seq), seq%16))
	}
	var g errgroup.Group
	for _, b := range slices.Backward(batches[n/2:]) {
		g.Go(func() error { return r.Put(t.Context(), b) })
	}
	for i, b := range batches {
		if i == n/2 {
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := r.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 { // twice does no harm, not at all is right as well
			if err := r.Put(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	h := r.Head()
	again := attach(t, s, "us", Local{Attached: true, Epoch: h.Epoch, Confirmed: n, Durable: n})
	for cell := range uint64(16) {
		data, _, _, err := again.Cell(t.Context(), cell)
		if err != nil {
			t.Fatal(err)
		}
		want := byte(48 + cell)
		if cell > n%16 {
			want -= 16
		}
		if data[0] != want {
			t.Errorf("cell %d holds %d, want %d", cell, data[0], want)
		}
	}
}
