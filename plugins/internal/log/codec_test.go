package log

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// newLog is a formatted and recovered log without a goroutine.
func newLog(t testing.TB, o Options) (*Log, *simdisk.Disk) {
	t.Helper()
	d, err := formatted()
	if err != nil {
		t.Fatal(err)
	}
	return reopen(t, d, o), d
}

func reopen(t testing.TB, d Disk, o Options) *Log {
	t.Helper()
	if o.MaxAge == 0 {
		o.MaxAge = -1
	}
	l, err := Open(d, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Recover(noState, noGroups); err != nil {
		t.Fatal(err)
	}
	return l
}

func noState(io.Reader, Cursor) error { return nil }
func noGroups(*Group) error           { return nil }

func appendAll(t testing.TB, l *Log, records ...Record) (positions []int64) {
	t.Helper()
	for _, r := range records {
		pos, n, err := l.Append(r)
		if err != nil || n != r.Len {
			t.Fatalf("append %d+%d: took %d: %v", r.Off, r.Len, n, err)
		}
		positions = append(positions, pos)
	}
	return positions
}

func flush(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func sampleRecords() []Record {
	return []Record{
		{Kind: Write, Off: 8 * BlockSize, Len: 2 * BlockSize, Data: bytes.Repeat([]byte{7}, 2*BlockSize)},
		{Kind: Patch, Off: 100, Len: 512, Data: bytes.Repeat([]byte{9}, 512)},
		{Kind: Zero, Off: 0, Len: 1 << 40},
		{Kind: Fill, Off: 0, Len: BlockSize, Data: make([]byte, BlockSize)},
	}
}

// sampleGroup is a sealed group on the disk.
func sampleGroup(t testing.TB) []byte {
	l, d := newLog(t, Options{})
	appendAll(t, l, sampleRecords()...)
	l.newest.mark = Mark{5}
	flush(t, l)
	p := AlignedBuffer(5 * BlockSize)
	if _, err := d.ReadAt(p, l.sb.Log.Off); err != nil {
		t.Fatal(err)
	}
	return p
}

const testTag = 1

func TestGroupRoundTrip(t *testing.T) {
	p := sampleGroup(t)
	var g Group
	if err := g.parseHeader(p, testTag, testSegment); err != nil {
		t.Fatal(err)
	}
	if g.Epoch != 1 || g.Seq != 1 || g.Pos != 0 || g.Len != int64(len(p)) || g.Tail != (Cursor{Seq: 1}) || g.Mark != (Mark{5}) {
		t.Errorf("header: %+v", g)
	}
	if r, b := g.attach(p); r >= 0 {
		t.Fatalf("record %d block %d is damaged", r, b)
	}
	for i, want := range sampleRecords() {
		got := g.Records[i]
		if got.Kind != want.Kind || got.Off != want.Off || got.Len != want.Len || !bytes.Equal(got.Data, want.Data) || int64(len(got.Sums)) != want.Kind.sums(want.Len) {
			t.Errorf("record %d: %+v", i, got)
		}
	}
	// A write after a patch starts at a block again, so that it can be read directly.
	if at := g.Records[3].Pos; at != 4*BlockSize {
		t.Errorf("write after patch at %d", at)
	}
	if c := g.clone(); !reflect.DeepEqual(c.Records, g.Records) || &c.Records[0].Sums[0] == &g.Records[0].Sums[0] {
		t.Error("clone differs or shares memory")
	}
	for i := 0; i < len(p); i += 13 {
		q := bytes.Clone(p)
		q[i] ^= 0x10
		bad := g.parseHeader(q, testTag, testSegment) != nil
		if !bad {
			r, _ := g.attach(q)
			bad = r >= 0
		}
		// Padding is covered by nothing; everything else must be noticed.
		if padding := i >= 3*BlockSize+512 && i < 4*BlockSize; bad == padding {
			t.Errorf("bit flipped at %d: noticed %v", i, bad)
		}
	}
	if g.parseHeader(p, testTag+1, testSegment) == nil {
		t.Error("group of another format of the disk accepted")
	}
}

func TestFormatVersions(t *testing.T) {
	d, err := formatted()
	if err != nil {
		t.Fatal(err)
	}
	sb, err := Probe(d)
	if err != nil {
		t.Fatal(err)
	}
	page := func(edit func(p []byte)) []byte {
		p := AlignedBuffer(BlockSize)
		next := *sb
		next.Generation++
		next.encode(p)
		edit(p)
		putU32(p[12:], sumWithout(p, 12))
		return p
	}
	for _, tc := range []struct {
		name string
		edit func(p []byte)
		want error
	}{
		{"compatible feature", func(p []byte) { p[16] = 1 }, nil},
		{"incompatible feature", func(p []byte) { p[24] = 1 }, ErrTooNew},
		{"next version", func(p []byte) { p[8] = formatVersion + 1 }, ErrTooNew},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := d.WriteAt(page(tc.edit), int64((sb.Generation+1)%2)*BlockSize); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(d, Options{}); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	old := simdisk.New(1 << 20)
	if _, err := old.WriteAt(page(func(p []byte) { p[8] = 1 }), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Probe(old); !errors.Is(err, ErrOldFormat) {
		t.Errorf("first version: %v", err)
	}
	if _, err := Probe(simdisk.New(1 << 20)); !errors.Is(err, ErrNotFormatted) {
		t.Errorf("blank disk: %v", err)
	}
}

// TestFormatCut cuts the power at every operation of Format: the disk is never taken for foreign, nor
// for formatted before it is.
func TestFormatCut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := 1; ; n++ {
		d := simdisk.New(testDisk)
		d.CutAfter(n)
		_, formatErr := Format(d, FormatOptions{UUID: [16]byte{1}, CheckpointSize: 16 << 10, Segment: testSegment})
		d = d.Crash(r)
		if _, err := Open(d, Options{}); err == nil {
			if formatErr == nil {
				return
			}
			continue
		} else if !errors.Is(err, ErrNotFormatted) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		ours, err := Unfinished(d)
		if err != nil {
			t.Fatal(err)
		}
		p := readAll(t, d)
		if !ours && !bytes.Equal(p, make([]byte, len(p))) {
			t.Fatalf("cut at %d: neither blank nor unfinished", n)
		}
	}
}

func readAll(t testing.TB, d Disk) []byte {
	t.Helper()
	p := AlignedBuffer(int(d.Size()))
	if _, err := d.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// page is fuzzed bytes as a block, with a good checksum at off: without one nothing else is reached.
func page(p []byte, off int, magic uint32) []byte {
	q := AlignedBuffer(BlockSize)
	copy(q, p)
	if magic != 0 {
		putU32(q, magic)
	}
	putU32(q[off:], sumWithout(q, off))
	return q
}

func FuzzGroup(f *testing.F) {
	f.Add(sampleGroup(f)[:400])
	f.Fuzz(func(t *testing.T, p []byte) {
		q := page(p, atSum, groupMagic)
		putU64(q[atTag:], testTag)
		putU32(q[atSum:], sumWithout(q, atSum))
		var g Group
		if err := g.parseHeader(q, testTag, testSegment); err != nil {
			return
		}
		if g.Len > testSegment || g.Pos%testSegment+g.Len > testSegment {
			t.Fatalf("group at %d of %d bytes crosses a segment", g.Pos, g.Len)
		}
		for _, r := range g.Records {
			if r.Kind != Zero && (r.Pos < g.Pos+BlockSize || r.Pos+r.Len > g.Pos+g.Len) || int64(len(r.Sums)) != r.Kind.sums(r.Len) {
				t.Fatalf("record %+v outside of its group", r)
			}
		}
		g.attach(make([]byte, g.Len))
	})
}

func FuzzSuperblock(f *testing.F) {
	l, _ := newLog(f, Options{})
	p := AlignedBuffer(BlockSize)
	l.sb.encode(p)
	f.Add(p[:256])
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := parseSuperblock(page(p, 12, 0), testDisk)
		if err == nil && (s.Log.end() > testDisk || s.Log.Len%s.Segment != 0 || s.Log.Len < minSegments*s.Segment) {
			t.Fatalf("areas outside the disk: %+v", s)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	p := AlignedBuffer(BlockSize)
	(&checkpoint{generation: 1, from: Cursor{Pos: BlockSize, Seq: 2}, tail: Cursor{Seq: 1}, size: 5, mark: Mark{1}}).encode(p, testTag)
	f.Add(p[:200])
	f.Fuzz(func(t *testing.T, p []byte) {
		q := page(p, 4, checkpointMagic)
		putU64(q[8:], testTag)
		putU32(q[4:], sumWithout(q, 4))
		c, err := parseCheckpoint(q, testTag, 64<<10)
		if err != nil {
			return
		}
		if c.size > 60<<10 || c.tail.Pos > c.from.Pos {
			t.Fatalf("accepted %+v", c)
		}
		back := AlignedBuffer(BlockSize)
		c.encode(back, testTag)
		if d, err := parseCheckpoint(back, testTag, 64<<10); err != nil || !reflect.DeepEqual(c, d) {
			t.Fatalf("%+v came back as %+v, %v", c, d, err)
		}
	})
}

// FuzzRing gives Recover a ring of any content: it is drained or refused, and what was drained
// reads back.
func FuzzRing(f *testing.F) {
	w := AlignedBuffer(testWindow)
	l, d := newLog(f, Options{Window: w})
	appendAll(f, l, Record{Kind: Write, Len: 2 * BlockSize, Data: make([]byte, 2*BlockSize)},
		Record{Kind: Patch, Off: 100, Len: 5, Data: make([]byte, 5)}, Record{Kind: Zero, Len: 1 << 30})
	stable := readAll(f, d)
	f.Add(w[:64], w[BlockSize:][:300]) // the payload is zeroes
	f.Fuzz(func(t *testing.T, head, group []byte) {
		w := AlignedBuffer(testWindow)
		copy(w[:BlockSize], head)
		copy(w[BlockSize:], group)
		d := simdisk.New(testDisk)
		if _, err := d.WriteAt(stable, 0); err != nil {
			t.Fatal(err)
		}
		l, err := Open(d, Options{Window: w, MaxAge: -1})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Recover(noState, noGroups); err != nil {
			if !errors.Is(err, ErrMediaCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if _, err := l.Scan(l.Tail(), ScanOptions{}, noGroups); err != nil {
			t.Fatalf("what was drained does not read back: %v", err)
		}
	})
}
