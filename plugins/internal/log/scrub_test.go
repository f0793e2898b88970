package log

import (
	"context"
	"slices"
	"testing"
)

// TestScrub damages a log in several ways and expects exactly that to be reported.
func TestScrub(t *testing.T) {
	l, d := newLog(t, Options{})
	var at []int64
	for i := range uint64(30) {
		at = append(at, appendAll(t, l, block(i))...)
		if i%3 == 2 {
			at = append(at, appendAll(t, l, Record{Kind: Patch, Off: 77, Len: 9, Data: []byte("123456789")})...)
			flush(t, l)
		}
	}
	scrub := func() (list []Damage) {
		report, err := l.Scrub(context.Background(), ScrubOptions{Rate: -1, Bad: func(b Damage) { list = append(list, b) }})
		if err != nil || report.Damaged != int64(len(list)) {
			t.Fatalf("%+v, %v", report, err)
		}
		return list
	}
	if list := scrub(); list != nil {
		t.Fatalf("a good log is reported as damaged: %+v", list)
	}
	// The window still holds what is damaged on the disk.
	d.Corrupt(l.offset(at[1]) + 5)
	d.Corrupt(l.offset(at[3]) + 1) // the patch of the first group
	head := 2*testSegment - BlockSize
	for int64(head)%testSegment != 0 || !isHeader(l, int64(head)) {
		head += BlockSize
	}
	d.Corrupt(l.offset(int64(head)) + 40)
	want := []Damage{
		{Pos: at[1], Len: BlockSize, Kind: Write, Off: BlockSize},
		{Pos: at[3], Len: 9, Kind: Patch, Off: 77},
		{Pos: int64(head), Len: testSegment, Header: true},
	}
	if last := l.Durable().Pos; int64(head)+testSegment > last {
		want[2].Len = last - int64(head)
	}
	if list := scrub(); !slices.Equal(list, want) {
		t.Errorf("got  %+v\nwant %+v", list, want)
	}
	// What the tail has passed is nobody's.
	c, err := l.Scan(l.Tail(), ScanOptions{Headers: true, End: at[4]}, noGroups)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Checkpoint(context.Background(), l.Written(), nil); err != nil {
		t.Fatal(err)
	}
	if err := l.SetMark(c, Mark{}); err != nil {
		t.Fatal(err)
	}
	flush(t, l)
	if list := scrub(); !slices.Equal(list, want[2:]) {
		t.Errorf("after the tail has moved: %+v", list)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Scrub(canceled, ScrubOptions{Rate: 1}); err == nil {
		t.Error("a canceled scrub ended without error")
	}
}

// TestScrubUnreadable goes on behind what cannot be read, and reports it.
func TestScrubUnreadable(t *testing.T) {
	l, d := newLog(t, Options{})
	var at []int64
	for i := range uint64(9) {
		at = append(at, appendAll(t, l, block(3*i), block(3*i+1), Record{Kind: Patch, Off: int64(i)*BlockSize + 7, Len: 9, Data: []byte("123456789")})...)
		flush(t, l)
	}
	segment := func(pos int64) int64 { return pos - pos%testSegment + testSegment }
	for name, tc := range map[string]struct {
		pos  int64
		want Damage
	}{
		"block":  {at[4], Damage{Pos: at[4], Len: BlockSize, Kind: Write, Off: 4 * BlockSize}},
		"patch":  {at[5], Damage{Pos: at[5], Len: 9, Kind: Patch, Off: BlockSize + 7}},
		"header": {at[6] - BlockSize, Damage{Pos: at[6] - BlockSize, Len: segment(at[6]) - at[6] + BlockSize, Header: true}},
	} {
		d.FailReads(l.offset(tc.pos&^(BlockSize-1)), BlockSize)
		var list []Damage
		report, err := l.Scrub(context.Background(), ScrubOptions{Rate: -1, Bad: func(b Damage) { list = append(list, b) }})
		if err != nil || !slices.Equal(list, []Damage{tc.want}) || report.Bytes != l.Durable().Pos {
			t.Errorf("%s: %d of %d bytes, %v\ngot  %+v\nwant %+v", name, report.Bytes, l.Durable().Pos, err, list, tc.want)
		}
	}
}

func isHeader(l *Log, pos int64) bool {
	p := AlignedBuffer(BlockSize)
	if err := l.readBlocks(p, pos, true); err != nil {
		return false
	}
	var g Group
	return g.parseHeader(p, l.sb.tag(), testSegment) == nil
}
