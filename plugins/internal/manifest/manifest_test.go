package manifest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

const testSize = 64 << 20

func sampleDelta(r *rand.Rand, after uint64) *Delta {
	d := &Delta{Epoch: 3, After: after, Seq: after + 1 + r.Uint64N(5)}
	o := &Object{Key: Key("v/", "data", 3, d.Seq, Sum([]byte{byte(after)}))}
	for range r.IntN(3) {
		first := r.Uint64N(testSize / BlockSize)
		d.Zeros = append(d.Zeros, Range{first, r.Uint64N(testSize/BlockSize - first)})
	}
	for range 1 + r.IntN(20) {
		d.Frames = append(d.Frames, CellFrame{Cell: r.Uint64N(testSize / CellSize), Frame: Frame{
			Object: o, Offset: r.Uint32N(1 << 20), Length: 1 + r.Uint32N(CellSize), Blocks: uint16(1 + r.Uint32N(1<<16-1)), Hash: Sum([]byte{byte(r.Uint32())}),
		}})
	}
	return d
}

// TestMap applies random deltas, each through its encoding, and compares with one entry a block.
func TestMap(t *testing.T) {
	type where struct {
		key    string
		offset uint32
	}
	r := rand.New(rand.NewPCG(1, 2))
	m := NewMap(testSize)
	model := map[uint64]where{}
	for range 200 {
		d, err := DecodeDelta(sampleDelta(r, m.Seq()).Encode())
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Apply(d); err != nil {
			t.Fatal(err)
		}
		for _, z := range d.Zeros {
			for b := z.First; b < z.First+z.Count; b++ {
				delete(model, b)
			}
		}
		for _, f := range d.Frames {
			for i := range uint64(BlocksPerCell) {
				if f.Blocks&(1<<i) != 0 {
					model[f.Cell*BlocksPerCell+i] = where{f.Object.Key, f.Offset}
				}
			}
		}
	}
	full, err := DecodeFull(m.Encode())
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*Map{"deltas": m, "full": full} {
		got := map[uint64]where{}
		for cell := range uint64(testSize / CellSize) {
			frames, _ := m.Lookup(cell)
			for _, f := range frames {
				for i := range uint64(BlocksPerCell) {
					if f.Live&(1<<i) != 0 {
						got[cell*BlocksPerCell+i] = where{f.Object.Key, f.Offset}
					}
				}
			}
		}
		if len(got) != len(model) {
			t.Errorf("%s: %d blocks, want %d", name, len(got), len(model))
		}
		for b, w := range model {
			if got[b] != w {
				t.Fatalf("%s: block %d is at %+v, want %+v", name, b, got[b], w)
			}
		}
	}
	if !bytes.Equal(full.Encode(), m.Encode()) {
		t.Error("the encoding of a decoded manifest differs")
	}
}

func TestApplyRefuses(t *testing.T) {
	frame := Frame{Object: &Object{Key: "v/data/1"}, Length: 1, Blocks: 1}
	for name, d := range map[string]*Delta{
		"gap":          {After: 5, Seq: 6},
		"cell outside": {Seq: 1, Frames: []CellFrame{{Cell: testSize / CellSize, Frame: frame}}},
		"huge cell":    {Seq: 1, Frames: []CellFrame{{Cell: 1 << 63, Frame: frame}}},
		"zero outside": {Seq: 1, Zeros: []Range{{1, testSize / BlockSize}}},
		"zero wraps":   {Seq: 1, Zeros: []Range{{1 << 63, 1 << 63}}},
	} {
		m := NewMap(testSize)
		if err := m.Apply(d); !errors.Is(err, ErrInvalid) || m.Seq() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFrame(t *testing.T) {
	random := make([]byte, 3*BlockSize)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for name, blocks := range map[string][]byte{"text": bytes.Repeat([]byte("ratchet "), 3*BlockSize/8), "noise": random} {
		p, err := AppendFrame([]byte("before"), blocks)
		if err != nil {
			t.Fatal(err)
		}
		p = p[len("before"):]
		if len(p) > len(blocks)+1 {
			t.Errorf("%s: frame of %d bytes", name, len(p))
		}
		f := Frame{Object: &Object{Key: "k"}, Blocks: 0b10110, Live: 0b10010, Hash: Sum(p)}
		got, err := f.Open(p)
		if err != nil || !bytes.Equal(got, blocks) {
			t.Fatalf("%s: %v", name, err)
		}
		cell := make([]byte, CellSize)
		f.Copy(cell, got)
		for i, want := range map[int][]byte{1: blocks[:BlockSize], 2: make([]byte, BlockSize), 4: blocks[2*BlockSize:]} {
			if !bytes.Equal(cell[i*BlockSize:(i+1)*BlockSize], want) {
				t.Errorf("%s: block %d", name, i)
			}
		}
		p[len(p)-1] ^= 1
		if _, err := f.Open(p); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: changed frame: %v", name, err)
		}
	}
}

func sampleHead() *Head {
	h := NewHead("v", testSize)
	h.Epoch, h.Owner, h.Session, h.Seq = 2, "us", "s", 9
	h.Full, h.Deltas = "v/full/1", []string{"v/delta/1"}
	return h
}

func TestHead(t *testing.T) {
	p, err := sampleHead().Encode()
	if err != nil {
		t.Fatal(err)
	}
	h, err := DecodeHead(p)
	if err != nil || h.Seq != 9 || h.Deltas[0] != "v/delta/1" {
		t.Fatalf("%+v, %v", h, err)
	}
	for _, tc := range []struct {
		old, new string
		want     error
	}{
		{`"version": 1`, `"version": 2`, ErrTooNew},
		{`"features": 0`, `"features": 4`, ErrTooNew},
		{`"epoch": 2`, `"epoch": 0`, ErrInvalid},
		{`"v/full/1"`, `"../../etc"`, ErrInvalid},
		{`"seq"`, `"sequence"`, ErrInvalid},
		{`"us"`, `"us`, ErrInvalid},
	} {
		if _, err := DecodeHead(bytes.Replace(p, []byte(tc.old), []byte(tc.new), 1)); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.new, err, tc.want)
		}
	}
}

func FuzzDelta(f *testing.F) {
	f.Add(sampleDelta(rand.New(rand.NewPCG(1, 1)), 0).Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		// Without a valid checksum the fuzzer would never get past the first line.
		for _, in := range [][]byte{p, seal(p)} {
			if d, err := DecodeDelta(in); err == nil {
				m := NewMap(testSize)
				if m.Apply(d) == nil && len(p) < 4096 {
					_ = m.Encode()
				}
			}
		}
	})
}

func FuzzFull(f *testing.F) {
	m := NewMap(testSize)
	_ = m.Apply(sampleDelta(rand.New(rand.NewPCG(1, 1)), 0))
	f.Add(m.Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, in := range [][]byte{p, seal(p)} {
			if m, err := DecodeFull(in); err == nil {
				if again, err := DecodeFull(m.Encode()); err != nil || again.Seq() != m.Seq() {
					t.Fatalf("a decoded manifest does not survive its own encoding: %v", err)
				}
			}
		}
	})
}

func FuzzHead(f *testing.F) {
	p, _ := sampleHead().Encode()
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		if h, err := DecodeHead(p); err == nil && (h.Epoch == 0 || h.Size <= 0) {
			t.Fatalf("%+v", h)
		}
	})
}

func FuzzFrame(f *testing.F) {
	p, _ := AppendFrame(nil, make([]byte, BlockSize))
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		if out, err := decodeFrame(p, BlockSize); err == nil && len(out) != BlockSize {
			t.Fatalf("%d bytes", len(out))
		}
	})
}
