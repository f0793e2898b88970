package overlay

import (
	"bytes"
	"errors"
	"testing"
)

func TestHeader(t *testing.T) {
	for _, tt := range []struct {
		header Header
		want   []byte
	}{
		{Header{VNI: 7}, []byte{8, 0, 0, 0, 0, 0, 7, 0}},
		{Header{VNI: MaxVNI, Epoch: 0x1234}, []byte{0x88, 0, 0x12, 0x34, 0xff, 0xff, 0xff, 0}},
	} {
		got := tt.header.Append(nil)
		if !bytes.Equal(got, tt.want) {
			t.Errorf("%+v is % x, want % x", tt.header, got, tt.want)
		}
		back, inner, err := Parse(append(got, "inner"...))
		if err != nil || back != tt.header || string(inner) != "inner" {
			t.Errorf("% x parsed to %+v, %q, %v", got, back, inner, err)
		}
	}
	for name, b := range map[string][]byte{
		"short":         {8, 0, 0, 0, 0, 0, 7},
		"no VNI":        {0, 0, 0, 0, 0, 0, 7, 0},
		"unknown flag":  {9, 0, 0, 0, 0, 0, 7, 0},
		"reserved bits": {8, 0, 0, 1, 0, 0, 7, 0},
		"reserved byte": {8, 0, 0, 0, 0, 0, 7, 1},
	} {
		if _, _, err := Parse(b); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v, want %v", name, err, ErrHeader)
		}
	}
}

func TestEpochsAreSerialNumbers(t *testing.T) {
	for _, tt := range []struct {
		a, b  uint16
		newer bool
	}{{2, 1, true}, {1, 2, false}, {1, 1, false}, {1, 0xffff, true}, {0xffff, 1, false}, {0x8000, 1, true}} {
		if got := Newer(tt.a, tt.b); got != tt.newer {
			t.Errorf("Newer(%d, %d) is %v", tt.a, tt.b, got)
		}
	}
	if Next(0xffff) != 1 || Next(1) != 2 {
		t.Error("Next does not skip 0")
	}
	if Wire(0) != 0 {
		t.Error("a counter of 0 is no epoch")
	}
	last := Wire(1)
	for counter := uint64(2); counter < 1<<17; counter++ {
		e := Wire(counter)
		if e == 0 || !Newer(e, last) {
			t.Fatalf("epoch %d of counter %d is not newer than %d", e, counter, last)
		}
		last = e
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Header{VNI: 7, Epoch: 1}.Append(nil))
	f.Add(Header{VNI: MaxVNI}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, inner, err := Parse(b)
		if err != nil {
			return
		}
		again := append(h.Append(nil), inner...)
		// The don't-learn and policy-applied bits of VXLAN-GBP are read past; nothing else is lost.
		if h.Epoch == 0 && b[0]&0x80 != 0 {
			return
		}
		if !bytes.Equal(again[4:], b[4:]) || again[0] != b[0] || again[2] != b[2] || again[3] != b[3] {
			t.Fatalf("% x parsed to %+v, which is % x", b, h, again)
		}
	})
}
