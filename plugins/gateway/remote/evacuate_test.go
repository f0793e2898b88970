package remote

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// random fills p with noise that the seed tells.
func random(p []byte, seed ...byte) {
	var s [32]byte
	copy(s[:], seed)
	_, _ = rand.NewChaCha8(s).Read(p) // never fails
}

// TestEvacuation leaves one live frame in each of many objects.
func TestEvacuation(t *testing.T) {
	h := newHistory(t, 6, Options{})
	noise := make([]byte, manifest.CellSize)
	for i := range 20 {
		b := &Batch{Seq: h.seq + 1, Object: h.r.NewObject()}
		for k := range uint64(40) {
			random(noise, byte(i), byte(k))
			cell := k
			if k == 0 {
				cell = 1000 + uint64(i)
			}
			f, err := b.Object.Add(cell, 0xffff, noise)
			h.must(err)
			b.Frames = append(b.Frames, f)
		}
		h.must(h.r.Commit(t.Context(), b))
		h.seq++
	}
	h.must(h.tidy(t.Context()))
	h.clock = h.clock.Add(2 * time.Minute)
	h.must(h.tidy(t.Context()))
	if s := h.r.Stats(); s.Bytes-s.Live > minGarbage { // of the 50 MiB that were written
		t.Errorf("%v", s)
	}
	for i := range uint64(20) {
		random(noise, byte(i), 0)
		if data, _, _, err := h.r.Cell(t.Context(), 1000+i); err != nil || !bytes.Equal(data, noise) {
			t.Fatalf("cell %d: %v", 1000+i, err)
		}
	}
}

// TestEvacuationMovesFrames: cells of many small frames, as writes at random leave them, are not packed anew for the sake of
// one frame in an object that is mostly dead.
func TestEvacuationMovesFrames(t *testing.T) {
	h := newHistory(t, 9, Options{})
	const cells, stay = 400, 40
	noise := make([]byte, manifest.BlockSize)
	content := func(pass, block byte, cell uint64) []byte {
		random(noise, pass, block, byte(cell), byte(cell>>8))
		return noise
	}
	for pass := range byte(2) {
		for block := range byte(manifest.BlocksPerCell) {
			b := &Batch{Seq: h.seq + 1, Object: h.r.NewObject()}
			for cell := uint64(pass) * stay; cell < cells; cell++ { // the second pass leaves the first cells as they are
				f, err := b.Object.Add(cell, 1<<block, content(pass, block, cell))
				h.must(err)
				b.Frames = append(b.Frames, f)
			}
			h.must(h.r.Commit(t.Context(), b))
			h.seq++
		}
	}
	for range 100 {
		more, err := h.r.evacuate(t.Context())
		h.must(err)
		if !more {
			break
		}
	}
	if s := h.r.Stats(); s.Bytes-s.Live > minGarbage {
		t.Errorf("garbage is left: %v", s)
	}
	list, _, err := h.r.look(t.Context(), 0)
	h.must(err)
	if len(list) != manifest.BlocksPerCell {
		t.Errorf("a cell of %d frames is in %d after one object was emptied", manifest.BlocksPerCell, len(list))
	}
	for _, cell := range []uint64{0, 1, stay - 1, stay, cells - 1} {
		data, mask, _, err := h.r.Cell(t.Context(), cell)
		h.must(err)
		pass := byte(1)
		if cell < stay {
			pass = 0
		}
		for block := range byte(manifest.BlocksPerCell) {
			at := int(block) * manifest.BlockSize
			if mask != 0xffff || !bytes.Equal(data[at:at+manifest.BlockSize], content(pass, block, cell)) {
				t.Fatalf("cell %d, block %d is something else", cell, block)
			}
		}
	}
}

// replace changes an object in the store, behind the head's back; nil removes it.
func (h *history) replace(o manifest.Object, change func([]byte)) {
	h.t.Helper()
	key := h.r.key(o.ID())
	p, err := h.store.Get(h.t.Context(), key, 0, -1)
	h.must(err, h.store.Delete(h.t.Context(), key))
	if change != nil {
		change(p)
		_, err = h.store.PutIfAbsent(h.t.Context(), key, p)
		h.must(err)
	}
}

// damageLeaf changes a leaf in the store.
func (h *history) damageLeaf(no uint64) {
	h.t.Helper()
	ref, ok := h.r.blocks.Ref(no)
	if !ok {
		h.t.Fatalf("no leaf %d in the store", no)
	}
	h.replace(*h.r.blocks.Object(ref.Object), func(p []byte) { p[ref.Offset+ref.Length/2] ^= 1 })
	h.open() // without it in memory
}

// TestEvacuationPassesDamage: what cannot be read is reported unless there is something else to move, and does not keep the
// frames of other leaves where they are.
func TestEvacuationPassesDamage(t *testing.T) {
	const bad, good = manifest.CellsPerLeaf, 2 * manifest.CellsPerLeaf
	for name, tc := range map[string]struct {
		damage   func(h *history)
		pinned   bool // a frame of the leaf, which stays
		reported bool
	}{
		"a frame": {func(h *history) {
			list, _, err := h.r.look(t.Context(), bad+1)
			h.must(err)
			h.replace(list[0].object, func(p []byte) { p[list[0].Offset+100] ^= 1 })
		}, true, false},
		"a leaf": {func(h *history) {
			h.must(h.r.Compact(t.Context()))
			h.damageLeaf(1)
		}, false, true},
		"the sparsest object, which is gone": {func(h *history) {
			h.replace(h.r.blocks.Sparsest(manifest.KindData, 1)[0], nil)
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t, 13, Options{})
			noise := make([]byte, manifest.CellSize)
			for i := range uint64(20) {
				b := &Batch{Seq: h.seq + 1, Object: h.r.NewObject()}
				cells := []uint64{bad + i}
				if i != 7 { // whose object is the sparsest
					cells = append(cells, good+i)
				}
				for k := range uint64(30) {
					cells = append(cells, k) // which the next batch replaces
				}
				for k := range uint64(400) {
					if i == 0 { // lives, so that a commit moves nothing yet
						cells = append(cells, 100+k)
					}
				}
				for _, cell := range cells {
					random(noise, byte(i), byte(cell), byte(cell>>8))
					f, err := b.Object.Add(cell, 0xffff, noise)
					h.must(err)
					b.Frames = append(b.Frames, f)
				}
				h.must(h.r.Commit(t.Context(), b))
				h.seq++
			}
			where := func(cell uint64) uint32 {
				list, _, err := h.r.look(t.Context(), cell)
				h.must(err)
				return list[0].Object
			}
			damaged, moves := where(bad+1), where(good+1)
			tc.damage(h)
			reported := false
			for range 10 {
				_, err := h.r.evacuate(t.Context())
				if err != nil && !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				reported = reported || err != nil
			}
			if reported != tc.reported {
				t.Errorf("damage reported: %v", reported)
			}
			if where(good+1) == moves {
				t.Error("the frame of another leaf is where it was")
			}
			if tc.pinned && where(bad+1) != damaged {
				t.Error("the damaged frame was moved")
			}
		})
	}
}

// TestDamagedLeafStopsNoUploads: of a leaf that cannot be read what lies over it stays there; the others are folded, and
// batches are committed.
func TestDamagedLeafStopsNoUploads(t *testing.T) {
	h := newHistory(t, 3, Options{})
	put := func(cells ...uint64) {
		t.Helper()
		h.must(h.r.Commit(t.Context(), batch(t, h.r, h.seq+1, byte(h.seq+1), cells...)))
		h.seq++
	}
	const bad, good = manifest.CellsPerLeaf, 2 * manifest.CellsPerLeaf
	put(bad, good)
	h.must(h.r.Compact(t.Context()))
	h.damageLeaf(1)
	h.r.maxPending = 8
	put(bad + 1)
	for i := range uint64(40) {
		put(good + i)
	}
	if n := h.r.blocks.Pending(); n > h.r.maxPending {
		t.Errorf("%d cells over the leaves", n)
	}
}
