package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// TestResize grows and shrinks a volume with data at its end, over restarts and a lost disk.
func TestResize(t *testing.T) {
	store, disk := newStore(), simdisk.New(testDisk)
	v := mustOpen(t, testOptions(disk, store))
	end := pattern(1, 64<<10)
	mustWrite(t, v, end, testSize-64<<10)
	const larger = testSize + 1<<20
	if err := v.Resize(limited(t), larger); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mustRead(t, v, testSize-64<<10, 64<<10), end) || !allZero(mustRead(t, v, testSize, 1<<20)) {
		t.Error("after growing: data differs")
	}
	mustWrite(t, v, end, larger-64<<10)
	mustUpload(t, v)

	if err := v.Resize(limited(t), testSize-32<<10); err != nil {
		t.Fatal(err)
	}
	if err := v.WriteAt(limited(t), end, testSize-64<<10, false); !errors.Is(err, ErrRange) {
		t.Errorf("write behind the end: %v", err)
	}
	if v.TryReadAt(make([]byte, 4096), testSize) {
		t.Error("read behind the end")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if v, err := Open(t.Context(), Options{Name: "v", Size: 1 << 20, Disk: disk, Store: store}); !errors.Is(err, ErrShrink) || !strings.Contains(err.Error(), "ratchetctl volume resize v 1MiB --shrink") {
		t.Errorf("open with less than the disk holds: %v, %v", v, err)
	}
	v = mustOpen(t, testOptions(disk, store)) // grows to testSize again
	want := append(bytes.Clone(end[:32<<10]), make([]byte, 32<<10)...)
	if !bytes.Equal(mustRead(t, v, testSize-64<<10, 64<<10), want) {
		t.Error("what was cut off came back")
	}
	mustWrite(t, v, end[:4096], testSize-4096)
	mustUpload(t, v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = mustOpen(t, testOptions(simdisk.New(testDisk), store))
	copy(want[60<<10:], end[:4096])
	if !bytes.Equal(mustRead(t, v, testSize-64<<10, 64<<10), want) {
		t.Error("on a new disk: data differs")
	}
}

// TestShrinkAgain cuts a shrink short by an outage, twice, and then asks for the same or another size. What is said to be done
// is done, in the store and for the next start.
func TestShrinkAgain(t *testing.T) {
	for _, next := range []int64{6 << 20, 5 << 20, 7 << 20, 16 << 20, 20 << 20} {
		t.Run(fmt.Sprint("then ", next>>20, " MiB"), func(t *testing.T) {
			store, disk := newStore(), simdisk.New(testDisk)
			o := testOptions(disk, store)
			o.Size = 16 << 20
			v := mustOpen(t, o)
			mustWrite(t, v, pattern(1, 64<<10), 0)
			mustWrite(t, v, pattern(2, 64<<10), 8<<20)
			mustUpload(t, v)
			for range 2 {
				ctx, cancel := context.WithCancel(t.Context())
				store.set(func(op, key string) error {
					if v.Size() == 6<<20 {
						cancel()
					}
					return outage(op, key)
				})
				if err := v.Resize(ctx, 6<<20); !errors.Is(err, context.Canceled) {
					t.Fatalf("without the store: %v", err)
				}
			}
			store.set(nil)
			if err := v.Resize(limited(t), next); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, v, pattern(3, 4096), next-4096)
			mustUpload(t, v)
			if stored, disk := v.remote.Head().Size, v.log.Superblock().UserSize; v.Size() != next || stored != next || disk != next {
				t.Errorf("size %d, in the store %d, on the disk %d", v.Size(), stored, disk)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			o.Size = next
			v = mustOpen(t, o)
			mustWrite(t, v, pattern(3, 4096), 128<<10)
			mustUpload(t, v)
			if !bytes.Equal(mustRead(t, v, 0, 64<<10), pattern(1, 64<<10)) || next > 8<<20 && !allZero(mustRead(t, v, 8<<20, 64<<10)) {
				t.Error("data differs")
			}
		})
	}
}

// TestCheckpointAfterShrink starts from checkpoints made while the log still held the record of a shrink.
func TestCheckpointAfterShrink(t *testing.T) {
	for name, sizes := range map[string][]int64{
		"smaller":                  {6 << 20},
		"inside a chunk":           {5<<20 + 12<<10},
		"smaller, then larger":     {6 << 20, 9 << 20},
		"smaller, then as before":  {6 << 20, 16 << 20},
		"smaller, then twice that": {6 << 20, 32 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			store, disk := newStore(), simdisk.New(testDisk)
			o := testOptions(disk, store)
			o.Size = 16 << 20
			v := mustOpen(t, o)
			kept := pattern(1, 64<<10)
			mustWrite(t, v, kept, 4<<20)
			mustWrite(t, v, pattern(2, 64<<10), 8<<20)
			for _, o.Size = range sizes {
				if err := v.Resize(limited(t), o.Size); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // nothing but these is there to start from
				mustCheckpoint(t, v)
			}
			for range 2 {
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
				v = mustOpen(t, o)
				if !bytes.Equal(mustRead(t, v, 4<<20, 64<<10), kept) {
					t.Error("what was not cut off differs")
				}
				if n := min(8<<20, o.Size-(4<<20+64<<10)); !allZero(mustRead(t, v, 4<<20+64<<10, n)) {
					t.Error("what was cut off came back")
				}
				o.Size = max(o.Size, 16<<20)
			}
		})
	}
}

func mustCheckpoint(t *testing.T, v *Volume) {
	t.Helper()
	v.clean.request.Lock() // as the cleaner does
	defer v.clean.request.Unlock()
	if err := v.checkpoint(); err != nil {
		t.Fatal(err)
	}
}

func allZero(p []byte) bool { return bytes.Equal(p, make([]byte, len(p))) }

// TestWriter keeps the client that may write over a restart; saying it twice is the same as once.
func TestWriter(t *testing.T) {
	store, disk := newStore(), simdisk.New(testDisk)
	v := mustOpen(t, testOptions(disk, store))
	id := [16]byte{1, 2, 3}
	for range 2 {
		if err := v.SetWriter(limited(t), 7, id); err != nil {
			t.Fatal(err)
		}
	}
	_ = v.Close()
	v = mustOpen(t, testOptions(disk, store))
	if epoch, got := v.Writer(); epoch != 7 || got != id {
		t.Errorf("writer %d %v", epoch, got)
	}
}

// TestStates sees blocks go from dirty to clean to remote, and evicts.
func TestStates(t *testing.T) {
	store := newStore()
	v := mustOpen(t, testOptions(simdisk.New(testDisk), store))
	v.HoldUpload(true)
	mustWrite(t, v, pattern(1, 256<<10), 0)
	if err := v.Zero(limited(t), 512<<10, 64<<10, true); err != nil {
		t.Fatal(err)
	}
	states := func() (list []State) {
		for _, off := range []int64{0, 512 << 10, 1 << 20} {
			list = append(list, v.Extents(off, 4096, true)[0].State)
		}
		return list
	}
	if got := states(); got[0] != Local|Dirty || got[1] != Zero|Local|Dirty || got[2] != Zero {
		t.Errorf("written: %v", got)
	}
	if n, err := v.Evict(limited(t), 1<<20); n != 0 || err != nil {
		t.Errorf("%d bytes of what is not uploaded evicted, %v", n, err)
	}
	v.HoldUpload(false)
	mustUpload(t, v)
	if got := states(); got[0] != Local || got[1] != Zero|Local {
		t.Errorf("uploaded: %v", got)
	}
	if n, err := v.Evict(limited(t), 1<<20); n == 0 || err != nil {
		t.Errorf("%d bytes evicted, %v", n, err)
	}
	if got := states(); got[0] != Remote || got[1] != Zero {
		t.Errorf("evicted: %v", got)
	}
	// The tail has moved: all that there is, once more.
	mustWrite(t, v, pattern(1, 256<<10), 0)
	mustUpload(t, v)
	if n, err := v.Evict(limited(t), math.MaxInt64); n == 0 || err != nil {
		t.Errorf("%d bytes evicted, %v", n, err)
	}
	if got := states(); got[0] != Remote {
		t.Errorf("evicted again: %v", got)
	}
	if !bytes.Equal(mustRead(t, v, 0, 256<<10), pattern(1, 256<<10)) {
		t.Error("evicted data differs")
	}
}
