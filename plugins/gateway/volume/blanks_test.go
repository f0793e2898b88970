package volume

import (
	"bufio"
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

func chunkList(b blanks) (list []uint64) {
	for c := range uint64(len(b)) * 64 {
		if b.has(c) {
			list = append(list, c)
		}
	}
	return list
}

func TestBlanks(t *testing.T) {
	for name, want := range map[string][]uint64{
		"none": nil, "first": {0}, "last": {99}, "runs": {0, 1, 2, 50, 51, 63, 64, 65, 99},
	} {
		var out bytes.Buffer
		b := newBlanks(100, func(c uint64) bool { return slices.Contains(want, c) })
		if err := b.write(&out); err != nil {
			t.Fatal(err)
		}
		p := out.Bytes()
		if got := chunkList(readBlanks(bufio.NewReader(bytes.NewReader(p)), 100)); !slices.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
		for n := range p { // cut off, nothing is known
			if got := readBlanks(bufio.NewReader(bytes.NewReader(p[:n])), 100); chunkList(got) != nil {
				t.Errorf("%s, cut at %d: %v", name, n, chunkList(got))
			}
		}
		if got := readBlanks(bufio.NewReader(bytes.NewReader(p)), 50); slices.ContainsFunc(chunkList(got), func(c uint64) bool { return c >= 50 }) {
			t.Errorf("%s, in a smaller volume: %v", name, chunkList(got))
		}
	}
	if blanks(nil).has(7) {
		t.Error("nil knows something")
	}
	// More runs than there may be: of the rest nothing is known.
	var out bytes.Buffer
	if err := newBlanks(4*maxBlankRuns, func(c uint64) bool { return c%2 == 0 }).write(&out); err != nil {
		t.Fatal(err)
	}
	if got := chunkList(readBlanks(bufio.NewReader(&out), 4*maxBlankRuns)); len(got) != maxBlankRuns || got[len(got)-1] != 2*(maxBlankRuns-1) {
		t.Errorf("of %d runs %d are known", 2*maxBlankRuns, len(got))
	}
}

func FuzzBlanks(f *testing.F) {
	var out bytes.Buffer
	_ = newBlanks(100, func(c uint64) bool { return c%7 < 3 }).write(&out)
	f.Add(out.Bytes(), uint64(100))
	f.Fuzz(func(t *testing.T, p []byte, chunks uint64) {
		chunks %= 1 << 16
		b := readBlanks(bufio.NewReader(bytes.NewReader(p)), chunks)
		for _, c := range chunkList(b) {
			if c >= chunks {
				t.Fatalf("chunk %d of %d", c, chunks)
			}
		}
		var out bytes.Buffer
		if err := b.write(&out); err != nil {
			t.Fatal(err)
		}
		if again := readBlanks(bufio.NewReader(&out), chunks); !slices.Equal(chunkList(again), chunkList(b)) {
			t.Fatalf("%v, then %v", chunkList(b), chunkList(again))
		}
	})
}

// TestNeverWrittenWithoutStore starts without the store: what was never written reads as zeroes at once, also beside
// what is written now. What only the store has waits, and so does what is unknown beside it.
func TestNeverWrittenWithoutStore(t *testing.T) {
	const size = 32 << 20 // 8 chunks
	store, disk := newStore(), simdisk.New(8<<20)
	o := testOptions(disk, store)
	o.Size, o.ReadTimeout = size, 100*time.Millisecond
	zeroes := make([]byte, 64<<10)
	v := mustOpen(t, o)
	mustWrite(t, v, pattern(1, 64<<10), 4<<20)
	mustUpload(t, v)
	reads := func(off int64) bool {
		p := make([]byte, len(zeroes))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := v.ReadAt(ctx, p, off)
		return err == nil && bytes.Equal(p, zeroes)
	}
	for round, checkpoint := range []bool{false, true} { // first by the state that the disk was formatted with
		if checkpoint {
			store.set(nil)
			mustUpload(t, v)
			if _, err := v.Evict(limited(t), size); err != nil {
				t.Fatal(err)
			}
			v.clean.request.Lock() // the cleaner makes checkpoints, too
			err := v.checkpoint()
			v.clean.request.Unlock()
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		store.set(outage)
		v = mustOpen(t, o)
		for _, off := range []int64{0, 16 << 20, 28 << 20} {
			if !reads(off) {
				t.Errorf("round %d: never written, at %d: waited", round, off)
			}
		}
		if checkpoint && reads(4<<20) {
			t.Error("what only the store has was read as zeroes")
		}
		at := int64(20+4*round) << 20
		mustWrite(t, v, []byte("a few bytes"), at+100)
		mustWrite(t, v, pattern(2, 4096), at+8192)
		if !reads(at + 64<<10) {
			t.Errorf("round %d: never written, beside what was written now: waited", round)
		}
		if got := mustRead(t, v, at, 4096); !bytes.Equal(got[100:111], []byte("a few bytes")) || got[99] != 0 || got[111] != 0 {
			t.Errorf("round %d: a part of a block that was never written: %q", round, got[90:120])
		}
	}

	// What was appended since the checkpoint is not blank any more, also when a start without the store evicts it.
	store.set(nil)
	mustWrite(t, v, pattern(3, 64<<10), 12<<20)
	mustUpload(t, v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	store.set(outage)
	v = mustOpen(t, o)
	if _, err := v.Evict(limited(t), size); err != nil {
		t.Fatal(err)
	}
	if local(v, 12<<20, 64<<10) {
		t.Error("it was not evicted, or is taken for zeroes")
	}
	if reads(12 << 20) {
		t.Error("what was evicted is read as zeroes")
	}
	store.set(nil)
	mustUpload(t, v)
	if !bytes.Equal(mustRead(t, v, 12<<20, 64<<10), pattern(3, 64<<10)) {
		t.Error("data is lost")
	}
	if !bytes.Equal(mustRead(t, v, 4<<20, 64<<10), pattern(1, 64<<10)) || !bytes.Equal(mustRead(t, v, 20<<20+8192, 4096), pattern(2, 4096)) {
		t.Error("data is lost")
	}
}
