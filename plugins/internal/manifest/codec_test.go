package manifest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func sizeOf[T any]() uintptr { var v T; return unsafe.Sizeof(v) }

func testKey() []byte { return bytes.Repeat([]byte{7}, KeySize) }

func testSealer(t testing.TB, volume string) *Sealer {
	t.Helper()
	s, err := NewSealer(testKey(), Sum([]byte(volume)).Tag())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func noise(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(p) // never fails
	return p
}

// TestMove moves a frame, which has the same content in its new object.
func TestMove(t *testing.T) {
	blocks := noise(2 * BlockSize)
	from, to := NewWriter(KindData, 3, 9, nil), NewWriter(KindData, 4, 10, nil)
	f, err := from.Add(5, 0b101, blocks)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := from.Finish()
	if _, err := to.Add(1, 1, make([]byte, BlockSize)); err != nil {
		t.Fatal(err)
	}
	moved, err := to.Move(7, &f.Frame, data[f.Offset:f.Offset+f.Length])
	if err != nil {
		t.Fatal(err)
	}
	part := f.Frame
	part.Live = 1
	if _, err := to.Move(8, &part, data[f.Offset:f.Offset+f.Length]); err == nil {
		t.Error("a frame with dead blocks was moved as it is")
	}
	if _, err := to.Move(8, &f.Frame, data[f.Offset+1:f.Offset+f.Length]); !errors.Is(err, ErrInvalid) {
		t.Errorf("other bytes: %v", err)
	}
	data, o := to.Finish()
	got, err := moved.Open(data[moved.Offset:moved.Offset+moved.Length], nil, &o, 7)
	if err != nil || !bytes.Equal(got, blocks) || moved.Cell != 7 || moved.Blocks != 0b101 || moved.Live != 0b101 {
		t.Errorf("%+v: %v", moved, err)
	}
	if cells, _, err := ReadDirectory(data); err != nil || !slices.Equal(cells, []uint64{1, 7}) {
		t.Errorf("directory: %v, %v", cells, err)
	}
}

// TestThrift packs runs of frames that compress and that do not: nearly all of the first are compressed, and few of a long
// run of the others are tried.
func TestThrift(t *testing.T) {
	dull, text := noise(BlockSize), bytes.Repeat([]byte("ratchet "), BlockSize/8)
	for _, tc := range []struct {
		name              string
		runs              []int // of dull ones and of text, in turn
		tries, compressed int
	}{
		{"text", []int{0, 100}, 100, 100},
		{"few dull ones between", []int{15, 1, 15, 1, 15, 1}, 48, 3},
		{"dull", []int{16 + 80}, 16 + 10, 0},
		{"text behind dull ones, next in turn", []int{24, 10}, 17 + 10, 10},
		{"text behind dull ones, just tried", []int{25, 10}, 18 + 3, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var th thrift
			tries, compressed := 0, 0
			for i, n := range tc.runs {
				for range n {
					blocks := [][]byte{dull, text}[i%2]
					if th.due() {
						tries++
					}
					p, err := th.append(nil, blocks)
					if err != nil {
						t.Fatal(err)
					}
					if p[0] == codecZstd {
						compressed++
					} else if !bytes.Equal(p[1:], blocks) {
						t.Fatal("a frame that is stored as it is holds something else")
					}
				}
			}
			if tries != tc.tries || compressed != tc.compressed {
				t.Errorf("%d tried and %d compressed, want %d and %d", tries, compressed, tc.tries, tc.compressed)
			}
		})
	}
}

// TestFrame packs frames, plain and sealed, and opens them again; a changed bit, another cell, object, volume
// or key does not open.
func TestFrame(t *testing.T) {
	for name, blocks := range map[string][]byte{"text": bytes.Repeat([]byte("ratchet "), 3*BlockSize/8), "noise": noise(3 * BlockSize)} {
		for _, s := range []*Sealer{nil, testSealer(t, "v")} {
			w := NewWriter(KindData, 3, 9, s)
			if _, err := w.Add(1, 1, make([]byte, BlockSize)); err != nil {
				t.Fatal(err)
			}
			f, err := w.Add(5, 0b10110, blocks)
			if err != nil {
				t.Fatal(err)
			}
			if int(f.Length) > len(blocks)+frameOverhead+sealOverhead {
				t.Errorf("%s: frame of %d bytes", name, f.Length)
			}
			f.Live = 0b10010
			data, o := w.Finish()
			raw := func() []byte { return slices.Clone(data[f.Offset : f.Offset+f.Length]) }
			got, err := f.Open(raw(), s, &o, 5)
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
			p := raw()
			p[len(p)-1] ^= 1
			if _, err := f.Open(p, s, &o, 5); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: changed frame: %v", name, err)
			}
			cells, need, err := ReadDirectory(data)
			if err != nil || need != 0 || !slices.Equal(cells, []uint64{1, 5}) {
				t.Errorf("directory: %v, %d more bytes, %v", cells, need, err)
			}
			if _, need, err := ReadDirectory(data[len(data)-trailerSize:]); err != nil || need != trailerSize+2 {
				t.Errorf("short tail: %d bytes needed, %v", need, err)
			}
			if s == nil {
				if _, err := f.Open(raw(), testSealer(t, "v"), &o, 5); !errors.Is(err, ErrInvalid) {
					t.Errorf("plain frame where they are sealed: %v", err)
				}
				continue
			}
			if _, err := NewWriter(KindData, 3, 10, s).Move(5, &f.Frame, raw()); err == nil {
				t.Error("a sealed frame was moved")
			}
			other := o
			other.Number++
			if bytes.Contains(data, []byte("ratchet ")) {
				t.Error("plain text in a sealed object")
			}
			for what, open := range map[string]func() ([]byte, error){
				"other cell":   func() ([]byte, error) { return f.Open(raw(), s, &o, 6) },
				"other object": func() ([]byte, error) { return f.Open(raw(), s, &other, 5) },
				"other volume": func() ([]byte, error) { return f.Open(raw(), testSealer(t, "w"), &o, 5) },
				"no key":       func() ([]byte, error) { return f.Open(raw(), nil, &o, 5) },
			} {
				if _, err := open(); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrKey) {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	}
	if a, b := testSealer(t, "v").KeyID(), testSealer(t, "w").KeyID(); a == b || len(a) != 16 {
		t.Errorf("key ids %q and %q", a, b)
	}
	if _, err := NewSealer(testKey()[1:], Tag{}); !errors.Is(err, ErrKey) {
		t.Errorf("short key: %v", err)
	}
}

func TestID(t *testing.T) {
	id := ID{Kind: KindPart, Epoch: 3, Number: 1 << 40, Tag: Sum(nil).Tag()}
	if got, err := ParseID(id.String()); err != nil || got != id {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "data", "data/1/2-3", "part/00000003/x-" + strings.Repeat("0", 32), strings.Replace(id.String(), "part", "head", 1), id.String() + "0", strings.ToUpper(id.String())} {
		if _, err := ParseID(s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func sampleHead() *Head {
	h := NewHead("v", Tag{1}, testSize)
	h.Epoch, h.Owner, h.Session, h.Seq, h.Next = 2, "us", "s", 9, 4
	h.Root = ID{Kind: KindRoot, Epoch: 2, Number: 8}.String()
	h.Deltas = []string{ID{Kind: KindDelta, Epoch: 2, Number: 9}.String()}
	return h
}

func TestHead(t *testing.T) {
	p, err := sampleHead().Encode()
	if err != nil {
		t.Fatal(err)
	}
	h, err := DecodeHead(p)
	if err != nil || h.Seq != 9 || h.DeltaIDs()[0].Number != 9 || h.RootID().Number != 8 || h.Tag() != (Tag{1}) {
		t.Fatalf("%+v, %v", h, err)
	}
	for _, tc := range []struct {
		old, new string
		want     error
	}{
		{`"version": 2`, `"version": 3`, ErrTooNew},
		{`"features": 0`, `"features": 4`, ErrTooNew},
		{`"features": 0`, `"features": 1`, ErrInvalid}, // sealed, but with no key
		{`"epoch": 2`, `"epoch": 0`, ErrInvalid},
		{`"root/`, `"../root/`, ErrInvalid},
		{`"delta/`, `"data/`, ErrInvalid},
		{`"id": "01`, `"id": "0`, ErrInvalid},
		{`"id": "01`, `"id": "010101`, ErrInvalid},
		{`"seq"`, `"sequence"`, ErrInvalid},
		{`"us"`, `"us`, ErrInvalid},
	} {
		if _, err := DecodeHead(bytes.Replace(p, []byte(tc.old), []byte(tc.new), 1)); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.new, err, tc.want)
		}
	}
}
