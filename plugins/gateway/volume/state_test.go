package volume

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

func sampleState() *state {
	return &state{
		size: testSize, tail: 8192, oldest: 77,
		places:  []log.Cursor{{Pos: 8192, Seq: 3, Prev: 9}, {Pos: 40960, Seq: 11, Prev: 4}},
		patches: []blockPatch{{5, patch{pos: 12300, off: 12, n: 40}}, {700, patch{pos: 20480, off: 0, n: 4096}}},
	}
}

func TestState(t *testing.T) {
	var b bytes.Buffer
	want := sampleState()
	if err := want.write(&b); err != nil {
		t.Fatal(err)
	}
	p := bytes.Clone(b.Bytes())
	got, err := readState(&b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	p[4] = 1 // a feature nobody knows
	if _, err := readState(bytes.NewReader(p)); !errors.Is(err, log.ErrTooNew) {
		t.Errorf("unknown feature: %v", err)
	}
}

func TestMark(t *testing.T) {
	want := mark{epoch: 1<<48 - 1, confirmed: log.Cursor{Pos: 1 << 60, Seq: 5, Prev: 1<<32 - 1}, headSeq: 4, writerEpoch: 1 << 63, writerID: [16]byte{1, 15: 2}}
	got, err := decodeMark(want.encode())
	if err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	p := want.encode()
	p[0]++
	if _, err := decodeMark(p); !errors.Is(err, log.ErrTooNew) {
		t.Errorf("newer version: %v", err)
	}
}

func FuzzState(f *testing.F) {
	var b bytes.Buffer
	_ = sampleState().write(&b)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := readState(bytes.NewReader(p))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := s.write(&b); err != nil || !bytes.HasPrefix(p, b.Bytes()[:2]) {
			t.Fatal("what was read cannot be written")
		}
		again, err := readState(&b)
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v, then %+v, %v", s, again, err)
		}
	})
}

func FuzzMark(f *testing.F) {
	p := mark{epoch: 3, confirmed: log.Cursor{Pos: 1 << 20, Seq: 5, Prev: 6}, headSeq: 4, writerEpoch: 2, writerID: [16]byte{1}}.encode()
	f.Add(p[:])
	f.Fuzz(func(t *testing.T, raw []byte) {
		var p log.Mark
		copy(p[:], raw)
		m, err := decodeMark(p)
		if err != nil {
			return
		}
		if again, err := decodeMark(m.encode()); err != nil || again != m {
			t.Fatalf("%+v, then %+v, %v", m, again, err)
		}
	})
}
