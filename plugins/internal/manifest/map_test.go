package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

const testSize = 200<<20 + 3*BlockSize // four leaves, the last chunk and cell not whole

// world drives a map against one entry for each block, with a store of its own.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	m      *Map
	model  map[uint64]Hash // block to the hash of the frame that it is in
	store  map[ID][]byte
	root   ID
	deltas []ID
	next   uint32
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), m: NewMap(testSize), model: map[uint64]Hash{}, store: map[ID][]byte{}, next: 1}
}

func (w *world) fatal(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// delta makes a random batch; its data object exists only in the table.
func (w *world) delta() *Delta {
	r := w.rng
	d := &Delta{Epoch: 1, After: w.m.Seq(), Seq: w.m.Seq() + 1 + r.Uint64N(5)}
	blocks := uint64(testSize / BlockSize)
	for range r.IntN(3) {
		first := r.Uint64N(blocks)
		d.Zeros = append(d.Zeros, Range{first, r.Uint64N(min(blocks-first, 1<<r.Uint64N(16))) + 1})
		z := &d.Zeros[len(d.Zeros)-1]
		z.Count = min(z.Count, blocks-first)
	}
	o := Object{Number: w.next, Epoch: 1}
	w.next += 1 + r.Uint32N(2)
	for range r.IntN(20) {
		f := Frame{Object: o.Number, Offset: o.Size, Length: 1 + r.Uint32N(100), Blocks: uint16(1 + r.Uint32N(1<<16-1))}
		cell := r.Uint64N(testSize / CellSize)
		if r.IntN(2) == 0 {
			cell %= 8 // some cells are written often
		}
		o.Size += f.Length
		f.Live = f.Blocks
		binary.LittleEndian.PutUint64(f.Hash[:], r.Uint64())
		d.Frames = append(d.Frames, CellFrame{cell, f})
	}
	if o.Size > 0 {
		o.Tag = Sum([]byte(fmt.Sprint(o.Number))).Tag()
		d.Objects = []Object{o}
	}
	return d
}

func (w *world) apply() {
	d := w.delta()
	p := d.Encode()
	d, err := DecodeDelta(p)
	w.fatal(err)
	w.fatal(w.m.Apply(d))
	id := ID{Kind: KindDelta, Epoch: 1, Number: d.Seq, Tag: Sum(p).Tag()}
	w.store[id], w.deltas = p, append(w.deltas, id)
	for _, z := range d.Zeros {
		for b := z.First; b < z.First+z.Count; b++ {
			delete(w.model, b)
		}
	}
	for _, f := range d.Frames {
		for i := range uint64(BlocksPerCell) {
			if f.Blocks&(1<<i) != 0 {
				w.model[f.Cell*BlocksPerCell+i] = f.Hash
			}
		}
	}
}

// leaf fetches an encoded leaf.
func (w *world) leaf(ref *LeafRef) []byte {
	o := w.m.Object(ref.Object)
	if o == nil {
		w.t.Fatalf("leaf in object %d, which is not in the table", ref.Object)
	}
	p := w.store[o.ID()]
	return p[ref.Offset : ref.Offset+ref.Length]
}

// fold compacts the leaves given, merging cells in too many frames when asked.
func (w *world) fold(merge bool, leaves ...uint64) {
	s := w.m.Begin()
	pack := NewWriter(KindLeaf, 1, w.next, nil)
	merged := Object{Number: w.next + 1, Epoch: 1}
	w.next += 2
	for _, no := range leaves {
		var old *Leaf
		if ref, ok := w.m.Ref(no); ok {
			var err error
			old, err = DecodeLeaf(w.leaf(&ref))
			w.fatal(err)
		}
		next := s.Fold(no, old, 7)
		for i, c := range next.Chunks {
			for j := 0; merge && c != nil && j < CellsPerChunk; j++ {
				if len(c.Cells[j]) <= MaxFrames {
					continue
				}
				f := Frame{Object: merged.Number, Offset: merged.Size, Length: 10}
				merged.Size += 10
				binary.LittleEndian.PutUint64(f.Hash[:], w.rng.Uint64())
				for _, part := range c.Cells[j] {
					f.Blocks |= part.Live
				}
				f.Live = f.Blocks
				c.Cells[j] = []Frame{f}
				cell := (no*ChunksPerLeaf+uint64(i))*CellsPerChunk + uint64(j)
				for b := range uint64(BlocksPerCell) {
					if f.Blocks&(1<<b) != 0 {
						w.model[cell*BlocksPerCell+b] = f.Hash
					}
				}
			}
		}
		var ref LeafRef
		if next.Mask() != 0 {
			ref = pack.AddLeaf(next.Encode())
		}
		s.Place(old, next, ref)
	}
	if pack.Len() > 0 {
		p, o := pack.Finish()
		s.Add(o)
		w.store[o.ID()] = p
	}
	if merged.Size > 0 {
		s.Add(merged)
	}
	plan := s.Plan(1, w.deltas, nil)
	for _, o := range plan.Objects {
		w.store[o.ID] = o.Data
	}
	w.m.Finish(plan)
	w.root, w.deltas = plan.Root, nil
	if !plan.Delta.IsZero() {
		w.deltas = []ID{plan.Delta}
	}
}

// restore loads the map anew, as after a restart.
func (w *world) restore() {
	before := w.m.Stats()
	m := NewMap(testSize)
	if !w.root.IsZero() {
		root, err := DecodeRoot(w.store[w.root])
		w.fatal(err)
		m, err = Restore(w.root, root, testSize, func(parts []PartID) ([][]byte, error) {
			var list [][]byte
			for _, p := range parts {
				list = append(list, slices.Clone(w.store[p.ID]))
			}
			return list, nil
		})
		w.fatal(err)
	}
	for _, id := range w.deltas {
		d, err := DecodeDelta(w.store[id])
		w.fatal(err)
		w.fatal(m.Apply(d))
	}
	w.m = m
	if after := m.Stats(); before.Live != after.Live || before.Objects != after.Objects || before.Graves != after.Graves {
		w.t.Fatalf("before the restart: %v\nafter: %v", before, after)
	}
}

// check compares every block, and the table with what the cells refer to.
func (w *world) check() {
	w.t.Helper()
	got, live, held := map[uint64]Hash{}, map[uint32]int64{}, map[uint64]bool{}
	for no := range w.m.leaves {
		if ref, ok := w.m.Ref(uint64(no)); ok {
			live[ref.Object] += int64(ref.Length)
			l, err := DecodeLeaf(w.leaf(&ref))
			w.fatal(err)
			for i := range l.Chunks {
				for j := 0; l.Chunks[i] != nil && j < CellsPerChunk; j++ {
					for _, f := range l.Chunks[i].Cells[j] {
						live[f.Object] += int64(f.Length)
					}
				}
			}
		}
	}
	for cell := range uint64(testSize/CellSize) + 1 {
		place := w.m.Lookup(cell)
		for _, f := range place.Frames {
			live[f.Object] += int64(f.Length)
		}
		var under []Frame
		if place.Leaf != nil {
			_, under = LeafCell(w.leaf(place.Leaf), cell)
		}
		for _, f := range place.Combine(under) {
			if w.m.Object(f.Object) == nil {
				w.t.Fatalf("cell %d in object %d, which is not in the table", cell, f.Object)
			}
			for i := range uint64(BlocksPerCell) {
				if f.Live&(1<<i) != 0 {
					got[cell*BlocksPerCell+i] = f.Hash
					held[cell/CellsPerChunk] = true
				}
			}
		}
	}
	if len(got) != len(w.model) {
		w.t.Errorf("%d blocks, want %d", len(got), len(w.model))
	}
	for b, h := range w.model {
		if got[b] != h {
			w.t.Fatalf("block %d is %x, want %x", b, got[b], h)
		}
	}
	for c := range held {
		if !w.m.MayHold(c) {
			w.t.Errorf("chunk %d holds something, its bit says no", c)
		}
	}
	for i := range w.m.table.list {
		if o := &w.m.table.list[i]; int64(o.Live) != live[o.Number] {
			w.t.Fatalf("object %d: %d bytes live, its entry says %d", o.Number, live[o.Number], o.Live)
		}
	}
	for _, g := range w.m.Graves() {
		if w.m.Refers(g) || g == w.root || slices.Contains(w.deltas, g) {
			w.t.Fatalf("%v is in a grave and referred to", g)
		}
	}
}

// TestMap runs random histories of batches, compactions of some or all leaves, and restarts.
func TestMap(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 60 {
				switch w.rng.IntN(6) {
				case 0:
					w.fold(w.rng.IntN(2) == 0, w.m.Busiest(1+w.rng.IntN(2))...)
				case 1:
					w.fold(true, 0, 1, 2, 3)
					if s := w.m.Stats(); s.Cells != 0 || s.Ragged != 0 || s.Cleared != 0 {
						t.Fatalf("after folding everything: %v", s)
					}
				case 2:
					w.check()
					w.restore()
				default:
					w.apply()
					continue
				}
				w.check()
			}
			w.check()
		})
	}
}

// TestGenerations sees a cell's generation change with every change of its content, whatever is folded in
// between.
func TestGenerations(t *testing.T) {
	w := newWorld(t, 99)
	last := map[uint64]uint64{}
	content := map[uint64]string{}
	for i := range 300 {
		if i == 0 {
			// The first look is at an empty volume.
		} else if w.rng.IntN(4) == 0 {
			w.fold(false, w.m.Busiest(2)...)
		} else {
			w.apply()
		}
		for cell := range uint64(8) {
			var now string
			for b := range uint64(BlocksPerCell) {
				h := w.model[cell*BlocksPerCell+b]
				now += string(h[:8])
			}
			g := w.m.Lookup(cell).Generation
			if i > 0 && g == last[cell] && now != content[cell] {
				t.Fatalf("cell %d changed and kept generation %d", cell, g)
			}
			last[cell], content[cell] = g, now
		}
	}
}

// TestLookupStays holds what Lookup has handed out against later deltas over the same cell: readers use it without a lock.
func TestLookupStays(t *testing.T) {
	m := NewMap(LeafSize)
	type handedOut struct{ frames, was []Frame }
	var list []handedOut
	for n := range uint32(40) {
		mask := uint16(1)<<(n%5) | uint16(1)<<(n*7%BlocksPerCell)
		d := &Delta{After: m.Seq(), Seq: m.Seq() + 1, Objects: []Object{{Number: n + 1, Size: 100, Kind: KindData}}}
		if n%8 == 7 {
			d.Zeros = []Range{{First: uint64(n % BlocksPerCell), Count: 3}}
		}
		d.Frames = []CellFrame{{Frame: Frame{Object: n + 1, Length: 10, Blocks: mask, Live: mask}}}
		if err := m.Apply(d); err != nil {
			t.Fatal(err)
		}
		frames := m.Lookup(0).Frames
		list = append(list, handedOut{frames, slices.Clone(frames)})
	}
	for i, l := range list {
		if !slices.Equal(l.frames, l.was) {
			t.Errorf("what was looked up after delta %d has changed", i+1)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	frame := Frame{Object: 1, Length: 1, Blocks: 1, Live: 1}
	objects := []Object{{Number: 1, Size: 10}}
	for name, d := range map[string]*Delta{
		"gap":              {After: 5, Seq: 6},
		"cell outside":     {Seq: 1, Objects: objects, Frames: []CellFrame{{testSize/CellSize + 1, frame}}},
		"block outside":    {Seq: 1, Objects: objects, Frames: []CellFrame{{testSize / CellSize, Frame{Object: 1, Length: 1, Blocks: 8, Live: 8}}}},
		"huge cell":        {Seq: 1, Objects: objects, Frames: []CellFrame{{1 << 63, frame}}},
		"zero outside":     {Seq: 1, Zeros: []Range{{1, testSize / BlockSize}}},
		"zero wraps":       {Seq: 1, Zeros: []Range{{1 << 63, 1 << 63}}},
		"unknown object":   {Seq: 1, Frames: []CellFrame{{1, frame}}},
		"object twice":     {Seq: 1, Objects: append(slices.Clone(objects), objects...)},
		"frame too long":   {Seq: 1, Objects: objects, Frames: []CellFrame{{1, Frame{Object: 1, Offset: 5, Length: 6, Blocks: 1, Live: 1}}}},
		"nothing live":     {Seq: 1, Objects: objects, Frames: []CellFrame{{1, Frame{Object: 1, Length: 6, Blocks: 1}}}},
		"older than it is": {After: 0, Seq: 0, Objects: []Object{{Number: 1}}},
	} {
		m := NewMap(testSize)
		if err := m.Apply(d); !errors.Is(err, ErrInvalid) || m.Seq() != 0 || len(m.over) != 0 || len(m.table.list) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMapOfAFullVolume holds the map of a full volume to its promise.
func TestMapOfAFullVolume(t *testing.T) {
	const size = 16 << 40
	m := NewMap(size)
	for i := range m.leaves {
		m.leaves[i].ref = LeafRef{Object: 1, Stored: 0xffff, Mask: 0xffff}
	}
	m.table.list = make([]Object, size/(8<<20))
	const chunks = size / ChunkSize
	bytes := len(m.leaves)*int(sizeOf[leafState]()) + len(m.table.list)*int(sizeOf[Object]()) + len(*m.holds.Load())*8
	if per := float64(bytes) / chunks; per > 24 {
		t.Errorf("%.1f bytes for each chunk", per)
	}
	m.zero(Range{0, size / BlockSize}) // nothing held: must not take time or memory
	if len(m.over) != 0 {
		t.Errorf("%d cells over the leaves", len(m.over))
	}
}
