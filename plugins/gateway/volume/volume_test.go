package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	testSize    = 4 << 20
	testDisk    = 3 << 20 // a log smaller than the volume
	testSegment = 64 << 10
)

func testOptions(d log.Disk, s objstore.Store) Options {
	return Options{
		Name: "v", Size: testSize, Disk: d, Store: s, segment: testSegment,
		MaxAge: time.Millisecond, MaxBatch: 128 << 10, ReadTimeout: 5 * time.Second, firstPause: time.Millisecond,
	}
}

func mustOpen(t *testing.T, o Options) *Volume {
	t.Helper()
	v, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// limited bounds what one step of a test may take.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustRead(t *testing.T, v *Volume, off, n int64) []byte {
	t.Helper()
	p := make([]byte, n)
	if err := v.ReadAt(limited(t), p, off); err != nil {
		t.Fatal(err)
	}
	return p
}

func mustWrite(t *testing.T, v *Volume, p []byte, off int64) {
	t.Helper()
	if err := v.WriteAt(limited(t), p, off, false); err != nil {
		t.Fatal(err)
	}
}

func mustUpload(t *testing.T, v *Volume) {
	t.Helper()
	if err := v.WaitUploaded(limited(t)); err != nil {
		t.Fatal(err)
	}
}

func pattern(seed byte, n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(seed), 7))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// TestModel runs random operations of all sizes and alignments against a byte slice, through
// uploads, reclaims, evictions, remote outages, reopenings and, in the end, the loss of the disk.
func TestModel(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			size := int64(testDisk)
			store, disk := newStore(), simdisk.New(size)
			model := make([]byte, testSize)
			v := mustOpen(t, testOptions(disk, store))
			down := false
			for i := range 3000 {
				off := r.Int64N(testSize)
				n := min(1+r.Int64N(1<<r.IntN(18)), testSize-off)
				if r.IntN(2) == 0 {
					off, n = off&^4095, (n+4095)&^4095
				}
				switch k := r.IntN(100); {
				case k < 45:
					p := pattern(byte(i), int(n))
					mustWrite(t, v, p, off)
					copy(model[off:], p)
				case k < 55:
					if err := v.Zero(limited(t), off, n, false); err != nil {
						t.Fatal(err)
					}
					clear(model[off : off+n])
				case k < 94:
					got := make([]byte, n)
					if down && !v.TryReadAt(got, off) {
						continue
					}
					if !down {
						got = mustRead(t, v, off, n)
					}
					if !bytes.Equal(got, model[off:off+n]) {
						t.Fatalf("step %d: read %d+%d differs at %d", i, off, n, differs(got, model[off:off+n]))
					}
				case k < 95 && !down:
					mustUpload(t, v)
				case k < 96 && !down:
					store.set(outage)
					down = true
				case k < 98 && v.log.Used() > v.log.Size()/2, k < 97:
					store.set(nil)
					down = false
				case k < 98:
					if err := v.Close(); err != nil {
						t.Fatal(err)
					}
					v = mustOpen(t, testOptions(disk, store))
				}
				if down && v.log.Used() > v.log.Size()*3/4 {
					store.set(nil) // or the writer would wait for good
					down = false
				}
			}
			store.set(nil)
			mustUpload(t, v)
			if got := mustRead(t, v, 0, testSize); !bytes.Equal(got, model) {
				t.Fatalf("at the end: differs at %d", differs(got, model))
			}
			s := v.Status()
			if s.Batches == 0 || s.DirtyBytes != 0 {
				t.Errorf("status after upload: %+v", s)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			v = mustOpen(t, testOptions(simdisk.New(testDisk), store))
			if got := mustRead(t, v, 0, testSize); !bytes.Equal(got, model) {
				t.Fatalf("on a new disk: differs at %d", differs(got, model))
			}
		})
	}
}

func differs(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// TestOutage writes while the store is away, at start too, and sees the upload go on after.
func TestOutage(t *testing.T) {
	store, disk := newStore(), simdisk.New(testDisk)
	v := mustOpen(t, testOptions(disk, store))
	p := pattern(1, 64<<10)
	mustWrite(t, v, p, 0)
	mustUpload(t, v)
	store.set(outage)
	mustWrite(t, v, p, 128<<10)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}

	v = mustOpen(t, testOptions(disk, store)) // the store is still away
	mustWrite(t, v, p, 256<<10)
	mustWrite(t, v, []byte("twelve bytes"), 300)
	for _, off := range []int64{0, 128 << 10, 256 << 10} {
		want := bytes.Clone(p)
		if off == 0 {
			copy(want[300:], "twelve bytes")
		}
		if !bytes.Equal(mustRead(t, v, off, int64(len(p))), want) {
			t.Errorf("without store: data at %d differs", off)
		}
	}
	s := v.Status()
	if s.State != Detached || !s.Remote.Down || s.DirtyBytes == 0 || s.OldestDirty <= 0 {
		t.Errorf("status without store: %+v", s)
	}
	store.set(nil)
	mustUpload(t, v)
	if s := v.Status(); s.State != Attached || s.DirtyBytes != 0 {
		t.Errorf("status after the store came back: %+v", s)
	}
}

// TestBackPressure fills the log with the store away: writers wait, can be cancelled, and lose nothing.
func TestBackPressure(t *testing.T) {
	store, disk := newStore(), simdisk.New(testDisk)
	v := mustOpen(t, testOptions(disk, store))
	store.set(outage)
	model := make([]byte, testSize)
	var off int64
	for {
		p := pattern(byte(off>>16), 256<<10)
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := v.WriteAt(ctx, p, off, false)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		copy(model[off:], p)
		if off += int64(len(p)); off == testSize {
			t.Fatal("log of the volume's size never filled")
		}
	}
	if !bytes.Equal(mustRead(t, v, 0, off), model[:off]) {
		t.Error("reads while writers wait: data differs")
	}
	var writers sync.WaitGroup
	for i := range int64(4) {
		at := off + i*(64<<10)
		p := pattern(byte(i), 64<<10)
		copy(model[at:], p)
		writers.Go(func() {
			if err := v.WriteAt(limited(t), p, at, false); err != nil {
				t.Error(err)
			}
		})
	}
	store.set(nil)
	writers.Wait()
	mustUpload(t, v)
	if end := off + 256<<10; !bytes.Equal(mustRead(t, v, 0, end), model[:end]) {
		t.Error("after the log drained: data differs")
	}
}

// TestFencing lets a second disk take the volume over from a gateway that is still running.
func TestFencing(t *testing.T) {
	store := newStore()
	old := mustOpen(t, testOptions(simdisk.New(testDisk), store))
	mustWrite(t, old, pattern(1, 8192), 0)
	mustUpload(t, old)
	store.set(outage)
	mustWrite(t, old, pattern(2, 8192), 0) // stays behind
	store.set(nil)

	// The old one's upload may get in the way of the takeover, which is then tried again.
	next, err := Open(t.Context(), testOptions(simdisk.New(testDisk), store))
	for tries := 0; errors.Is(err, objstore.ErrUnavailable) && tries < 10; tries++ {
		next, err = Open(t.Context(), testOptions(simdisk.New(testDisk), store))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.Close() })
	// Which of the two states the new gateway found depends on how far the old one's upload had come.
	got := mustRead(t, next, 0, 8192)
	if !bytes.Equal(got, pattern(1, 8192)) && !bytes.Equal(got, pattern(2, 8192)) {
		t.Error("new gateway serves neither of the states there were")
	}
	_ = old.WriteAt(limited(t), pattern(3, 4096), 0, false) // makes the old one meet the new head
	if err := old.WaitUploaded(limited(t)); !errors.Is(err, remote.ErrFenced) {
		t.Fatalf("upload of the old gateway: %v", err)
	}
	if err := old.WriteAt(limited(t), pattern(3, 4096), 0, false); !errors.Is(err, remote.ErrFenced) {
		t.Errorf("write to the old gateway: %v", err)
	}
	if err := old.ReadAt(limited(t), make([]byte, 4096), 0); !errors.Is(err, remote.ErrFenced) {
		t.Errorf("read from the old gateway: %v", err)
	}
	if s := old.Status(); s.State != Fenced || s.DirtyBytes == 0 {
		t.Errorf("status of the old gateway: %+v", s)
	}
	mustWrite(t, next, pattern(4, 4096), 0)
	mustUpload(t, next)
}

// TestUnheard loses the answers of puts that were done, heads included.
func TestUnheard(t *testing.T) {
	store := newStore()
	r := rand.New(rand.NewPCG(1, 1))
	store.unheard = func(string) bool { return r.IntN(3) == 0 }
	store.set(nil)
	var v *Volume
	for v == nil { // the takeover on a blank disk is tried once at a time
		v, _ = Open(limited(t), testOptions(simdisk.New(testDisk), store))
	}
	defer v.Close()
	for i := range int64(12) {
		mustWrite(t, v, pattern(byte(i), 4096), i*4096)
		mustUpload(t, v)
	}
	if s := v.Status(); s.State == Failed || s.State == Fenced {
		t.Errorf("state %s: %v", s.State, s.Err)
	}
}

// TestLaxStore refuses a store whose conditional writes are not.
func TestLaxStore(t *testing.T) {
	store := newStore()
	store.lax = true
	if v, err := Open(t.Context(), testOptions(simdisk.New(testDisk), store)); !errors.Is(err, objstore.ErrNoConditional) {
		t.Errorf("open: %v, %v", v, err)
	}
}

// TestMissDoesNotBlockHits holds a fetch in the store while hits and writes go on.
func TestMissDoesNotBlockHits(t *testing.T) {
	store := newStore()
	v := mustOpen(t, testOptions(simdisk.New(testDisk), store))
	mustWrite(t, v, pattern(1, 256<<10), 0)
	mustUpload(t, v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	o := testOptions(simdisk.New(testDisk), store) // blank: all is in the store
	o.MaxAge = time.Hour                           // or merging the patch below would fetch, too
	v = mustOpen(t, o)
	mustRead(t, v, 0, 4096)
	eventually(t, func() bool { return local(v, 0, 4096) }) // the client is answered before the cell is cached
	release := make(chan struct{})
	started := make(chan struct{}, 8)
	store.set(func(op, key string) error {
		if op == "get" {
			started <- struct{}{}
			<-release
		}
		return nil
	})
	store.mu.Lock()
	before := store.gets
	store.mu.Unlock()
	var misses sync.WaitGroup
	for range 3 {
		misses.Go(func() { mustRead(t, v, 128<<10, 4096) })
	}
	<-started
	mustRead(t, v, 8192, 4096)
	mustWrite(t, v, pattern(2, 4096), 64<<10) // into a cell that is not here: no fetch either
	mustWrite(t, v, pattern(3, 100), 192<<10) // nor for a part of a block
	close(release)
	misses.Wait()
	if n := store.gets - before; n != 1 {
		t.Errorf("three misses of one cell: %d gets", n)
	}
	s := v.Status()
	if s.Misses < 2 || s.Hits < 1 {
		t.Errorf("counters: %d hits, %d misses", s.Hits, s.Misses)
	}
}

// TestRottenCache damages what is cached; the volume notices and takes the store's copy.
func TestRottenCache(t *testing.T) {
	store, disk := newStore(), simdisk.New(testDisk)
	v := mustOpen(t, testOptions(disk, store))
	want := pattern(1, 64<<10)
	mustWrite(t, v, want, 0)
	mustUpload(t, v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	disk = simdisk.New(testDisk)
	v = mustOpen(t, testOptions(disk, store))
	mustRead(t, v, 0, 64<<10)
	eventually(t, func() bool { return local(v, 0, 64<<10) })
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for b := range uint64(cellBlocks) {
		e := v.index.Get(b)
		disk.Corrupt(v.log.Superblock().Log.Off + int64(e.Place())*blockSize)
	}
	v = mustOpen(t, testOptions(disk, store)) // nothing is in the window any more
	if !bytes.Equal(mustRead(t, v, 0, 64<<10), want) {
		t.Error("rotten data served")
	}
	if v.Status().Rotten == 0 {
		t.Error("rot not counted")
	}
}

// TestUnreadable has a sector that the disk cannot read. A block there that the store has is fetched, by whoever comes first,
// a reader or a scrub; one that is nowhere else is an error, and the blocks around it are not touched.
func TestUnreadable(t *testing.T) {
	for _, tc := range []struct{ dirty, scrub bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		t.Run(fmt.Sprintf("dirty %t, scrub %t", tc.dirty, tc.scrub), func(t *testing.T) {
			disk := simdisk.New(testDisk)
			o := testOptions(disk, newStore())
			o.Window = memory(blockSize + 2*testSegment)
			o.Hold = tc.dirty
			v := mustOpen(t, o)
			want := pattern(1, 64<<10)
			mustWrite(t, v, want, 0)
			mustWrite(t, v, pattern(2, 512<<10), 1<<20) // the window holds no more than that
			if err := v.Flush(limited(t)); err != nil {
				t.Fatal(err)
			}
			if !tc.dirty {
				mustUpload(t, v)
			}
			sector(t, v, 3, disk.FailReads)
			if tc.scrub {
				if err := v.Scrub(limited(t), -1); err != nil {
					t.Fatal(err)
				}
				if s := v.Status().Scrub; s.Repaired+s.Lost != 1 || (s.Lost == 1) != tc.dirty {
					t.Errorf("scrub: %+v", s)
				}
			}
			got := make([]byte, len(want))
			err := v.ReadAt(limited(t), got, 0)
			if !tc.dirty && (err != nil || !bytes.Equal(got, want)) {
				t.Errorf("what the store has: %v", err)
			}
			if tc.dirty && !errors.Is(err, ErrRotten) {
				t.Errorf("what it does not have: %v", err)
			}
			if !bytes.Equal(mustRead(t, v, 0, 3*blockSize), want[:3*blockSize]) || !bytes.Equal(mustRead(t, v, 4*blockSize, 12*blockSize), want[4*blockSize:]) {
				t.Error("blocks around it differ")
			}
			if s := v.Status(); !tc.dirty && s.Rotten != 1 || tc.dirty && s.Lost == 0 {
				t.Errorf("%d blocks fetched again, %d lost", s.Rotten, s.Lost)
			}
		})
	}
}

// sector tells where on the disk a block is that has left the window.
func sector(t *testing.T, v *Volume, block uint64, use func(off, n int64)) {
	t.Helper()
	e := v.index.Get(block)
	if !e.IsData() || v.log.Young(v.pos(e)) {
		t.Fatalf("block %d is not on the disk alone", block)
	}
	use(v.log.Superblock().Log.Off+int64(e.Place())*blockSize, blockSize)
}

// eventually waits for what another goroutine does and has no event for.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// local reports whether a range can be read without the store.
func local(v *Volume, off, n int64) bool {
	for _, e := range v.Extents(off, n, false) {
		if e.State&(Local|Zero) == 0 {
			return false
		}
	}
	return true
}

// TestOldestAfterRestart: what is in the store does not count as waiting when the volume is opened again, and of what is not the
// first write's time counts.
func TestOldestAfterRestart(t *testing.T) {
	for _, dirty := range []bool{false, true} {
		t.Run(fmt.Sprintf("dirty %v", dirty), func(t *testing.T) {
			store, disk := newStore(), simdisk.New(testDisk)
			v := mustOpen(t, testOptions(disk, store))
			mustWrite(t, v, pattern(1, 64<<10), 0)
			mustUpload(t, v)
			store.set(outage)
			uploaded := time.Now()
			if dirty {
				mustWrite(t, v, pattern(2, 64<<10), 128<<10)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			v = mustOpen(t, testOptions(disk, store))
			if got, most := v.Status().OldestDirty, time.Since(uploaded); got > most || !dirty && got != 0 || dirty && got == 0 {
				t.Errorf("the oldest write waits for %s, at most %s", got, most)
			}
		})
	}
}
