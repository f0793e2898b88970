package recorded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// written is a recording as the kernel lays it out.
func written(entries ...Entry) []byte {
	le := binary.LittleEndian
	p := make([]byte, kernelSector)
	le.PutUint64(p, magic)
	le.PutUint64(p[8:], version)
	le.PutUint64(p[16:], uint64(len(entries)))
	le.PutUint32(p[24:], kernelSector)
	for _, e := range entries {
		h := make([]byte, kernelSector)
		le.PutUint64(h, uint64(e.Offset/kernelSector))
		le.PutUint64(h[8:], uint64(e.Len/kernelSector))
		var flags uint64
		for _, f := range []struct {
			on  bool
			bit uint64
		}{{e.Flush, flagFlush}, {e.FUA, flagFUA}, {e.Discard, flagDiscard}, {e.Mark != "", flagMark}} {
			if f.on {
				flags |= f.bit
			}
		}
		le.PutUint64(h[16:], flags)
		le.PutUint64(h[24:], uint64(len(e.Mark)))
		copy(h[entryHeader:], e.Mark)
		p = append(append(p, h...), e.Data...)
	}
	return p
}

func TestRead(t *testing.T) {
	data := bytes.Repeat([]byte{7}, 2*kernelSector)
	want := []Entry{
		{Offset: 4096, Len: 2 * kernelSector, Data: data},
		{Flush: true},
		{Mark: "acked 3"},
		{Offset: 512, Len: 1 << 30, Discard: true},
		{Offset: 0, Len: kernelSector, Data: data[:kernelSector], FUA: true, Flush: true},
	}
	var got []Entry
	if err := Read(bytes.NewReader(written(want...)), func(_ int, e Entry) error { got = append(got, e); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d entries", len(got))
	}
	for i, e := range got {
		if w := want[i]; e.Offset != w.Offset || e.Len != w.Len || !bytes.Equal(e.Data, w.Data) || e.Flush != w.Flush || e.FUA != w.FUA || e.Discard != w.Discard || e.Mark != w.Mark {
			t.Errorf("entry %d: %+v, want %+v", i, e, w)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(written(Entry{Mark: "x"}, Entry{Len: kernelSector, Data: make([]byte, kernelSector)}))
	f.Add(make([]byte, kernelSector))
	f.Fuzz(func(t *testing.T, p []byte) {
		stop := errors.New("enough")
		_ = Read(bytes.NewReader(p), func(i int, e Entry) error {
			if int64(len(e.Data)) > int64(len(p)) {
				t.Fatal("data from nowhere")
			}
			if i > 1000 {
				return stop
			}
			return nil
		})
	})
}
