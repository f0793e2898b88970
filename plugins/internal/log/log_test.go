package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

func block(n uint64) Record {
	return Record{Kind: Write, Off: int64(n) * BlockSize, Len: BlockSize, Data: payload(int64(n), n)}
}

// run starts Run and returns what ends it.
func run(t testing.TB, l *Log) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return stop
}

// TestCorruption damages one durable group and expects the log to refuse, not to cut itself short.
func TestCorruption(t *testing.T) {
	at := func(group, off int64) func(Area) int64 {
		return func(a Area) int64 { return a.Off + group*2*BlockSize + off }
	}
	for _, tc := range []struct {
		name    string
		where   func(Area) int64
		clean   bool  // Run has ended before
		recover error // what Recover says
		scan    error // what a scan of payloads says
	}{
		{"header of a middle group", at(2, 20), false, ErrMediaCorrupt, nil},
		{"header of the first group", at(0, 0), false, ErrMediaCorrupt, nil},
		// What is known durable is not read again by Recover; who reads it finds out.
		{"payload of a middle group", at(2, BlockSize+99), false, nil, ErrMediaCorrupt},
		// Nothing says that the last group was ever whole: this is what a torn write looks like.
		{"payload of the last group", at(9, BlockSize+99), false, nil, nil},
		{"payload of the last group after a clean end", at(9, BlockSize+99), true, nil, ErrMediaCorrupt},
		{"header of the last group after a clean end", at(9, 8), true, ErrMediaCorrupt, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, d := newLog(t, Options{})
			stop := run(t, l)
			for i := range uint64(10) {
				appendAll(t, l, block(i))
				flush(t, l)
			}
			if tc.clean {
				if err := stop(); err != nil {
					t.Fatal(err)
				}
			}
			d.Corrupt(tc.where(l.sb.Log))
			before := readAll(t, d)
			l, err := Open(d, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err = l.Recover(noState, noGroups); !errors.Is(err, tc.recover) {
				t.Fatalf("recover: %v, want %v", err, tc.recover)
			}
			if tc.recover != nil {
				if !bytes.Equal(before, readAll(t, d)) {
					t.Error("the refused disk was written to")
				}
				l, err := Open(d, Options{mutant: mutantTruncate})
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Recover(noState, noGroups); err != nil {
					t.Errorf("mutant that truncates was not seen: %v", err)
				}
				return
			}
			if _, err := l.Scan(l.Tail(), ScanOptions{}, noGroups); !errors.Is(err, tc.scan) {
				t.Errorf("scan: %v, want %v", err, tc.scan)
			}
		})
	}
}

// TestUnreadable opens a log some page of which cannot be read. Behind its end that means nothing; in it, or where the next group
// would be, it is an error.
func TestUnreadable(t *testing.T) {
	for _, tc := range []struct {
		name string
		page int64 // behind the end
		want error
	}{
		{"read ahead of the end", 5, nil},
		{"the first of the next segment", testSegment/BlockSize - 6, nil},
		{"where the next group would be", 0, simdisk.ErrIO},
		{"the last group's header", -2, simdisk.ErrIO},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, d := newLog(t, Options{})
			for i := range uint64(3) {
				appendAll(t, l, block(i))
				flush(t, l)
			}
			d.FailReads(l.offset(l.Durable().Pos+tc.page*BlockSize), BlockSize)
			l, err := Open(d, Options{})
			if err != nil {
				t.Fatal(err)
			}
			groups := 0
			err = l.Recover(noState, func(*Group) error { groups++; return nil })
			if !errors.Is(err, tc.want) || err == nil && groups != 3 {
				t.Errorf("%d groups, %v", groups, err)
			}
		})
	}
}

// TestFailurePoisons lets one sync or write fail: nothing succeeds after it, though the disk works.
func TestFailurePoisons(t *testing.T) {
	for name, fail := range map[string]func(*simdisk.Disk, func() bool){
		"sync": (*simdisk.Disk).FailSyncs, "write": (*simdisk.Disk).FailWrites,
	} {
		t.Run(name, func(t *testing.T) {
			l, d := newLog(t, Options{})
			once := true
			fail(d, func() bool { f := once; once = false; return f })
			appendAll(t, l, block(1))
			ctx := context.Background()
			for what, call := range map[string]func() error{
				"flush":      func() error { return l.Flush(ctx) },
				"again":      func() error { return l.Flush(ctx) },
				"flush to":   func() error { return l.FlushTo(ctx, 1) },
				"append":     func() error { _, _, err := l.Append(block(1)); return err },
				"wait":       func() error { return l.WaitRoom(ctx, 1, false) },
				"checkpoint": func() error { return l.Checkpoint(ctx, l.Written(), func(io.Writer) error { return nil }) },
				"user size":  func() error { return l.SetUserSize(1) },
			} {
				if what != "flush" {
					_ = l.Flush(ctx) // whichever comes first in this map
				}
				if err := call(); !errors.Is(err, ErrPoisoned) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := l.Run(ctx); !errors.Is(err, ErrPoisoned) {
				t.Errorf("run: %v", err)
			}
		})
	}
}

// free lets everything durable go.
func free(t testing.TB, l *Log) {
	t.Helper()
	c := l.Written()
	if err := l.Checkpoint(context.Background(), c, func(io.Writer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := l.SetMark(c, Mark{}); err != nil {
		t.Fatal(err)
	}
	flush(t, l)
}

// TestRoom fills window and log, sees writers wait, and lets them go.
func TestRoom(t *testing.T) {
	l, _ := newLog(t, Options{})
	fill := func() (n int, err error) {
		for err == nil {
			if _, _, err = l.Append(block(uint64(n % testBlocks))); err == nil {
				n++
			}
		}
		return n, err
	}
	n, err := fill()
	if !errors.Is(err, ErrWindowFull) || int64(n+2)*BlockSize < l.win.size()-testSegment {
		t.Fatalf("%d blocks into a window of %d bytes: %v", n, l.win.size(), err)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.WaitRoom(canceled, BlockSize, false); !errors.Is(err, context.Canceled) {
		t.Errorf("wait for the window: %v", err)
	}
	run(t, l)
	for !errors.Is(err, ErrLogFull) {
		if _, err = fill(); errors.Is(err, ErrWindowFull) {
			if err := l.WaitRoom(context.Background(), BlockSize, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.WaitRoom(canceled, BlockSize, false); !errors.Is(err, context.Canceled) {
		t.Errorf("wait for the log: %v", err)
	}
	flush(t, l)
	// The reserve is for the work that frees the log.
	r := block(1)
	r.Reserve = true
	if _, _, err := l.Append(r); err != nil {
		t.Errorf("append into the reserve: %v", err)
	}
	if _, _, err := l.Append(block(1)); !errors.Is(err, ErrLogFull) {
		t.Errorf("append without reserve: %v", err)
	}
	first := l.Tail().Pos
	waiting := make(chan error)
	go func() { waiting <- l.WaitRoom(context.Background(), BlockSize, false) }()
	flush(t, l)
	free(t, l)
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	for range l.Size() / BlockSize / 2 {
		if _, _, err := l.Append(block(1)); err != nil {
			if err := l.WaitRoom(context.Background(), BlockSize, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	flush(t, l)
	for name, read := range map[string]func([]byte, int64) error{"read": l.Read, "read once": l.ReadOnce} {
		if err := read(AlignedBuffer(BlockSize), first); !errors.Is(err, ErrGone) {
			t.Errorf("%s of a position that was reused: %v", name, err)
		}
	}
}

// TestMarksFit sets marks in a log that is full to the brim: each is stored as long as the
// reserve for them lasts, and an error after that.
func TestMarksFit(t *testing.T) {
	l, d := newLog(t, Options{})
	for {
		r := block(1)
		r.Reserve = true
		if _, _, err := l.Append(r); errors.Is(err, ErrLogFull) {
			break
		}
		if err := l.writeOut(false); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, l)
	var err error
	stored := byte(0)
	for err == nil {
		if err = l.SetMark(l.Tail(), Mark{stored + 1}); err != nil {
			t.Fatal(err)
		}
		if err = l.Flush(context.Background()); err == nil {
			stored++
		}
	}
	if !errors.Is(err, ErrLogFull) || stored < byte(testSegment/BlockSize)-1 {
		t.Fatalf("%d marks stored: %v", stored, err)
	}
	if got := reopen(t, d.Kill(), Options{}).Mark(); got != (Mark{stored}) {
		t.Errorf("found mark %d, stored %d", got[0], stored)
	}
}

// TestTailLimits holds SetMark to what a restart needs.
func TestTailLimits(t *testing.T) {
	l, _ := newLog(t, Options{})
	appendAll(t, l, block(1))
	flush(t, l)
	durable := l.Durable()
	if err := l.SetMark(durable, Mark{}); err == nil {
		t.Error("tail passed the checkpoint")
	}
	free(t, l)
	appendAll(t, l, block(2))
	if err := l.writeOut(true); err != nil {
		t.Fatal(err)
	}
	if err := l.SetMark(l.Written(), Mark{}); err == nil {
		t.Error("tail passed what is durable")
	}
	if err := l.SetMark(Cursor{Seq: 1}, Mark{}); err == nil {
		t.Error("tail went back")
	}
}

func TestAppendRefuses(t *testing.T) {
	l, _ := newLog(t, Options{})
	for _, r := range []Record{
		{},
		{Kind: Write, Len: BlockSize},
		{Kind: Write, Len: 5, Data: make([]byte, 5)},
		{Kind: 77, Len: 1, Data: []byte{1}},
		{Kind: Patch, Off: BlockSize - 1, Len: 2, Data: []byte{1, 2}},
		{Kind: Zero, Off: 1, Len: BlockSize},
		{Kind: Zero, Len: 0},
		{Kind: Write, Off: -BlockSize, Len: BlockSize, Data: make([]byte, BlockSize)},
		{Kind: Write, Len: 2 * BlockSize, Data: make([]byte, 2*BlockSize), Sums: []uint32{1}},
	} {
		if _, _, err := l.Append(r); err == nil {
			t.Errorf("appended %+v", r)
		}
	}
	if l.Head() != 0 {
		t.Error("something was appended")
	}
}

// TestCheckpointFallback damages the newest checkpoint's state: the older one and a longer replay
// give the same, as long as the log still reaches back to it.
func TestCheckpointFallback(t *testing.T) {
	for _, reused := range []bool{false, true} {
		t.Run(fmt.Sprint("reused ", reused), func(t *testing.T) {
			l, d := newLog(t, Options{})
			store := func(s string) {
				appendAll(t, l, block(uint64(len(s))))
				flush(t, l)
				if err := l.Checkpoint(context.Background(), l.Written(), func(w io.Writer) error {
					_, err := io.WriteString(w, s)
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			lap := func(n int64) {
				for range n / BlockSize {
					if _, _, err := l.Append(block(1)); errors.Is(err, ErrWindowFull) {
						if err := l.writeOut(false); err != nil {
							t.Fatal(err)
						}
					}
				}
				flush(t, l)
			}
			store("one")
			lap(3 * testSegment)
			store("three")
			if reused {
				if err := l.SetMark(l.Durable(), Mark{}); err != nil {
					t.Fatal(err)
				}
				flush(t, l)
				lap(2 * l.Size())
			}
			d.Corrupt(l.sb.Checkpoint[l.generation%2].Off + BlockSize + 1)
			l, err := Open(d, Options{MaxAge: -1})
			if err != nil {
				t.Fatal(err)
			}
			var loaded []string
			groups := 0
			err = l.Recover(func(r io.Reader, _ Cursor) error {
				p, err := io.ReadAll(r)
				loaded = append(loaded, string(p))
				return err
			}, func(*Group) error { groups++; return nil })
			if reused {
				if !errors.Is(err, ErrMediaCorrupt) {
					t.Errorf("older checkpoint used though its log is gone: %v", err)
				}
				return
			}
			if err != nil || len(loaded) != 2 || loaded[1] != "one" || groups < 1 {
				t.Fatalf("loaded %q, %d groups: %v", loaded, groups, err)
			}
			store("five!")
			l = reopen(t, d.Kill(), Options{})
			if l.generation < 3 {
				t.Errorf("generation %d after a fallback", l.generation)
			}
		})
	}
}

// TestCheckpointTooLarge leaves everything as it was.
func TestCheckpointTooLarge(t *testing.T) {
	l, d := newLog(t, Options{})
	free(t, l)
	before := l.generation
	err := l.Checkpoint(context.Background(), l.Written(), func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, ErrTooLarge) || l.Err() != nil || l.generation != before {
		t.Fatalf("got %v, log %v", err, l.Err())
	}
	if room := fmt.Sprintf("more than %d bytes", l.sb.Checkpoint[0].Len-BlockSize); !strings.Contains(err.Error(), room) {
		t.Errorf("%v, want %q", err, room)
	}
	free(t, l)
	reopen(t, d.Kill(), Options{})
}

// TestReadersWithoutLocks reads while the log is written round and round. What a reader is told
// is right, wherever it comes from.
func TestReadersWithoutLocks(t *testing.T) {
	l, _ := newLog(t, Options{Window: AlignedBuffer(testWindow)})
	run(t, l)
	var newest [testBlocks]atomic.Int64 // position + 1
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var reads, gone atomic.Int64
	for i := range 3 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			p := AlignedBuffer(BlockSize)
			for ctx.Err() == nil {
				b := r.Int64N(testBlocks)
				pos := newest[b].Load() - 1
				if pos < 0 {
					continue
				}
				ok := i == 0 && l.TryRead(p, pos)
				if !ok {
					read := l.Read
					if i == 1 {
						read = l.ReadOnce
					}
					if err := read(p, pos); errors.Is(err, ErrGone) {
						gone.Add(1)
						continue
					} else if err != nil {
						t.Error(err)
						return
					}
				}
				reads.Add(1)
				if got := int64(binary.LittleEndian.Uint64(p[8:])); got != b || !bytes.Equal(p, payload(b, binary.LittleEndian.Uint64(p))) {
					t.Errorf("read of block %d at %d gave block %d", b, pos, got)
					return
				}
			}
		})
	}
	for n := uint64(0); (n < 6000 || reads.Load() < 1000) && !t.Failed(); n++ {
		b := int64(n % testBlocks)
		pos, _, err := l.Append(Record{Kind: Write, Off: b * BlockSize, Len: BlockSize, Data: payload(b, n)})
		switch {
		case errors.Is(err, ErrWindowFull):
			err = l.WaitRoom(ctx, BlockSize, true) // room in the log is made here
		case errors.Is(err, ErrLogFull):
			free(t, l)
			err = nil
		case err == nil:
			newest[b].Store(pos + 1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	all.Wait()
	t.Logf("%d reads, %d of positions that were reused", reads.Load(), gone.Load())
}

// TestFlushIsShared has many writers flush at once: what each wrote is durable when its flush
// returns, with fewer syncs than flushes.
func TestFlushIsShared(t *testing.T) {
	l, _ := newLog(t, Options{})
	run(t, l)
	var owner sync.Mutex
	var all sync.WaitGroup
	const writers, each = 8, 40
	for i := range uint64(writers) {
		all.Go(func() {
			for range each {
				owner.Lock()
				pos, n, err := l.Append(block(i))
				if errors.Is(err, ErrLogFull) {
					free(t, l)
					pos, n, err = l.Append(block(i))
				}
				owner.Unlock()
				if err == nil {
					err = l.Flush(context.Background())
				}
				if err != nil {
					t.Error(err)
					return
				}
				if d := l.Durable().Pos; d < pos+n {
					t.Errorf("flush returned with %d durable, wrote to %d", d, pos+n)
				}
			}
		})
	}
	all.Wait()
}

func TestPredictor(t *testing.T) {
	for _, tc := range []struct {
		pattern string // w = record, f = flush
		want    string // + where a flush was begun with a record
	}{
		{"wfwfwfwf", "----+-+-"},
		{"wwwfwwwfwwwf", "----------+-"},
		{"wfwwfwwwfwwwf", "-------------"},
		{"wfwfwwwf", "----+---"},
		{"ffwffwfwf", "-------+-"},
		{"wwwwwwww", "--------"},
	} {
		var p predictor
		got := ""
		for _, c := range tc.pattern {
			switch {
			case c == 'f':
				p.flushed()
				got += "-"
			case p.appended():
				got += "+"
			default:
				got += "-"
			}
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.pattern, got, tc.want)
		}
	}
}

// TestFlushAhead has a single client write and flush by turns: it is told to begin its flush with the record, which
// then finds it done, and with all of the log's groups that is one sync a turn.
func TestFlushAhead(t *testing.T) {
	l, _ := newLog(t, Options{})
	ahead := 0
	for i := range uint64(20) {
		r := block(i)
		r.Alone = true
		appendAll(t, l, r)
		if l.FlushDue() {
			if l.FlushDue() {
				t.Fatal("the same flush is due twice")
			}
			l.FlushAhead()
			ahead++
			if d := l.Durable().Pos; d != l.Head() {
				t.Errorf("durable up to %d after a flush ahead, appended up to %d", d, l.Head())
			}
		}
		flush(t, l)
	}
	if s := l.Stats(); ahead < 15 || s.Syncs != s.Flushes {
		t.Errorf("%d of 20 flushes begun ahead; %d syncs for %d flushes", ahead, s.Syncs, s.Flushes)
	}
	// Without a reason to expect one nothing is due, and what others append is their own affair.
	appendAll(t, l, block(1), block(2))
	if l.FlushDue() {
		t.Error("a flush is due after records of those who did not ask")
	}
}

func TestAppendAllocates(t *testing.T) {
	l, _ := newLog(t, Options{})
	r := block(1)
	if n := testing.AllocsPerRun(10, func() {
		if _, _, err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for each record", n)
	}
}
