package manifest

import (
	"bytes"
	"testing"
)

// both gives the fuzzer's bytes a valid checksum too: without one it would never get past the first line.
func both(p []byte) [][]byte { return [][]byte{p, checksum(bytes.Clone(p))} }

func body(p []byte) []byte { return p[:len(p)-4] }

func FuzzDelta(f *testing.F) {
	w := newWorld(&testing.T{}, 1)
	f.Add(body(w.delta().Encode()))
	f.Add(body((&Delta{}).Encode()))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, in := range both(p) {
			d, err := DecodeDelta(in)
			if err != nil {
				continue
			}
			if again, err := DecodeDelta(d.Encode()); err != nil || again.Seq != d.Seq || len(again.Frames) != len(d.Frames) {
				t.Fatalf("a decoded delta does not survive its own encoding: %v", err)
			}
			m := NewMap(testSize)
			if m.Apply(d) == nil {
				_ = m.Begin().Plan(1, nil, nil)
			}
		}
	})
}

func sampleLeaf() *Leaf {
	c := &Chunk{Owner: 7}
	c.Cells[3] = []Frame{{Object: 1, Length: 5, Blocks: 3, Live: 1}, {Object: 2, Offset: 9, Length: 5, Blocks: 2, Live: 2}}
	c.Cells[63] = []Frame{{Object: 1 << 30, Length: 5, Blocks: 3, Live: 1}}
	l := &Leaf{Number: 2}
	l.Chunks[0], l.Chunks[15] = c, c
	return l
}

func FuzzLeaf(f *testing.F) {
	f.Add(body(sampleLeaf().Encode()))
	f.Add(body((&Leaf{}).Encode()))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, in := range both(p) {
			l, err := DecodeLeaf(in)
			if err != nil {
				continue
			}
			if again, err := DecodeLeaf(l.Encode()); err != nil || again.Mask() != l.Mask() || again.Ragged() != l.Ragged() {
				t.Fatalf("a decoded leaf does not survive its own encoding: %v", err)
			}
			for i := range uint64(CellsPerLeaf) {
				_, frames := LeafCell(in, i)
				var want []Frame
				if c := l.Chunks[i/CellsPerChunk]; c != nil {
					want = c.Cells[i%CellsPerChunk]
				}
				if len(frames) != len(want) {
					t.Fatalf("cell %d: %d frames by looking it up, %d by decoding", i, len(frames), len(want))
				}
			}
		}
	})
}

func FuzzRoot(f *testing.F) {
	t := &Root{Epoch: 1, Seq: 2, Size: testSize, Graves: []Grave{{Kind: KindData, Epoch: 1}}}
	t.Leaves = []PartID{{0, ID{Kind: KindPart}}, {5, ID{Kind: KindPart}}}
	f.Add(body(t.Encode()))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, in := range both(p) {
			if r, err := DecodeRoot(in); err == nil {
				if again, err := DecodeRoot(r.Encode()); err != nil || len(again.Leaves) != len(r.Leaves) || len(again.Graves) != len(r.Graves) {
					t.Fatalf("a decoded root does not survive its own encoding: %v", err)
				}
			}
		}
	})
}

func FuzzPart(f *testing.F) {
	leaves, _ := encodeLeafPart(0, 1, func(uint64) LeafRef { return LeafRef{Object: 1, Length: 9, Stored: 3, Mask: 1} })
	f.Add(body(leaves))
	f.Add(body(encodeObjectPart(0, []Object{{Number: 1, Epoch: 1, Size: 10, Kind: KindLeaf}})))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, in := range both(p) {
			m := NewMap(testSize)
			m.table.add(Object{Number: 1, Epoch: 1, Size: 10, Kind: KindLeaf})
			if decodeLeafPart(in, 0, m.setRef) == nil {
				again, _ := encodeLeafPart(0, uint64(len(m.leaves)), func(no uint64) LeafRef { return m.leaves[no].ref })
				if err := decodeLeafPart(again, 0, m.setRef); err != nil {
					t.Fatalf("a decoded part does not survive its own encoding: %v", err)
				}
			}
			if list, err := decodeObjectPart(in, 0); err == nil {
				if _, err := decodeObjectPart(encodeObjectPart(0, list), 0); err != nil {
					t.Fatalf("a decoded part does not survive its own encoding: %v", err)
				}
			}
		}
	})
}

func FuzzHead(f *testing.F) {
	p, _ := sampleHead().Encode()
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := DecodeHead(p)
		if err != nil {
			return
		}
		if h.Epoch == 0 || h.Size <= 0 || h.Root != "" && h.RootID().Kind != KindRoot || len(h.DeltaIDs()) != len(h.Deltas) {
			t.Fatalf("%+v", h)
		}
		_ = h.Tag()
	})
}

func FuzzID(f *testing.F) {
	f.Add(ID{Kind: KindLeaf, Epoch: 2, Number: 7}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != s {
			t.Fatalf("%q is read as %q", s, id.String())
		}
	})
}

func FuzzFrame(f *testing.F) {
	for _, s := range []*Sealer{nil, testSealer(f, "v")} {
		w := NewWriter(KindData, 1, 1, s)
		c, _ := w.Add(1, 1, make([]byte, BlockSize))
		p, _ := w.Finish()
		f.Add(p[:c.Length])
	}
	s := testSealer(f, "v")
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, s := range []*Sealer{nil, s} {
			if out, err := openBlocks(bytes.Clone(p), BlockSize, s, binding{}); err == nil && len(out) != BlockSize {
				t.Fatalf("%d bytes", len(out))
			}
		}
	})
}

func FuzzDirectory(f *testing.F) {
	w := NewWriter(KindData, 1, 1, nil)
	_, _ = w.Add(1<<40, 1, make([]byte, BlockSize))
	_, _ = w.Add(3, 1, make([]byte, BlockSize))
	p, _ := w.Finish()
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		if cells, need, err := ReadDirectory(p); err == nil && need == 0 && len(cells) > len(p) {
			t.Fatalf("%d cells from %d bytes", len(cells), len(p))
		}
	})
}
