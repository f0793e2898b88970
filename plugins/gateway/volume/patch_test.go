package volume

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// openEvicted opens a volume of which all is in the store and nothing here, with the upload on hold: parts of blocks become
// patches.
func openEvicted(t *testing.T, o Options) *Volume {
	t.Helper()
	v := mustOpen(t, o)
	mustWrite(t, v, pattern(1, 1<<20), 0)
	mustUpload(t, v)
	if n, err := v.Evict(limited(t), 1<<30); n == 0 || err != nil {
		t.Fatalf("%d bytes evicted, %v", n, err)
	}
	v.HoldUpload(true)
	return v
}

func (v *Volume) patches() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.over.n
}

// TestPatchLimit has writers of parts wait for room in the log, each of whom has seen that one patch more may be there. One of
// them gets it when there is room.
func TestPatchLimit(t *testing.T) {
	store := newStore()
	o := testOptions(simdisk.New(testDisk), store)
	o.ReadAhead = -1
	v := openEvicted(t, o)
	mustWrite(t, v, pattern(2, 512<<10), 2<<20) // the first to be uploaded
	limit := int(v.log.Size() / blockSize)
	one := []byte{1}
	for i := range int64(limit - 1) {
		mustWrite(t, v, one, i%200*blockSize+i/200*2)
	}
	if n := v.patches(); n != limit-1 {
		t.Fatalf("%d patches, want %d", n, limit-1)
	}
	// The rest of the log, to the last block.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		for v.WriteAt(ctx, pattern(3, blockSize), 1<<20, false) == nil {
		}
	})
	eventually(t, func() bool { return v.clean.waiting.Load() == 1 })
	cancel()
	all.Wait()
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	const writers = 8
	for i := range int64(writers) {
		all.Go(func() { _ = v.WriteAt(ctx, one, i*blockSize+4000, false) })
	}
	eventually(t, func() bool { return v.clean.waiting.Load() == writers })
	// One batch goes to the store, which makes room in the log but not for patches.
	before := v.up.at.Load()
	store.set(func(op, key string) error {
		if v.up.at.Load() > before {
			return outage(op, key)
		}
		return nil
	})
	v.HoldUpload(false)
	eventually(t, func() bool { return v.patches() >= limit && v.clean.waiting.Load() == 0 })
	cancel()
	all.Wait() // those who had room have used it
	if n := v.patches(); n != limit {
		t.Errorf("%d patches, want %d", n, limit)
	}
}

// TestRottenPatch damages a patch on the disk. Nobody is served its bytes, and nothing is made of them; a scrub tells of it, and
// a start from a checkpoint knows it still.
func TestRottenPatch(t *testing.T) {
	disk := simdisk.New(testDisk)
	o := testOptions(disk, newStore())
	o.Window = memory(blockSize + 2*testSegment)
	o.ReadAhead = -1
	v := openEvicted(t, o)
	mustWrite(t, v, pattern(3, 512), 3*blockSize+512)
	mustWrite(t, v, pattern(3, 512), 5*blockSize+512)
	rotten := v.over.get(3)[0].pos
	mustWrite(t, v, pattern(2, 512<<10), 2<<20) // the window holds no more than that
	if err := v.Flush(limited(t)); err != nil {
		t.Fatal(err)
	}
	sb := v.log.Superblock()
	disk.Corrupt(sb.Log.Off + rotten%sb.Log.Len)
	if err := v.Scrub(limited(t), -1); err != nil {
		t.Fatal(err)
	}
	if s := v.Status(); s.Scrub.Lost != 1 || s.Lost != 1 {
		t.Errorf("scrub: %d lost, in all %d", s.Scrub.Lost, s.Lost)
	}
	mustCheckpoint(t, v)
	o.Hold = true
	for range 2 {
		if err := v.ReadAt(limited(t), make([]byte, blockSize), 3*blockSize); !errors.Is(err, ErrRotten) {
			t.Errorf("read of a damaged patch: %v", err)
		}
		want := pattern(1, 1<<20)[5*blockSize : 6*blockSize]
		copy(want[512:], pattern(3, 512))
		if !bytes.Equal(mustRead(t, v, 5*blockSize, blockSize), want) {
			t.Error("the other patch's block differs")
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if e := v.index.Get(3); !e.IsPatched() {
			t.Errorf("block with a damaged patch: %#x", e)
		}
		v = mustOpen(t, o)
	}
}

// TestPatchSums takes checksums through a checkpoint, and through one of a release that did not write them.
func TestPatchSums(t *testing.T) {
	s := sampleState()
	for i := range s.patches {
		s.patches[i].sum = uint32(i) + 7
	}
	var b bytes.Buffer
	if err := s.writeSums(&b); err != nil {
		t.Fatal(err)
	}
	p := b.Bytes()
	for n := range len(p) + 1 {
		got := sampleState()
		want := got.patches[0].sum
		if n == len(p) {
			want = 7
		}
		if got.readSums(bytes.NewReader(p[:n])); got.patches[0].sum != want {
			t.Errorf("of %d of %d bytes: %+v", n, len(p), got.patches)
		}
	}
}

// TestManyPatches reads back the state of a checkpoint with more patches than may be added at a time.
func TestManyPatches(t *testing.T) {
	s := &state{size: testSize}
	for i := range int64(maxPatches + 100) {
		s.patches = append(s.patches, blockPatch{uint64(i) % (testSize / blockSize), patch{pos: i, off: 1, n: 2}})
	}
	var b bytes.Buffer
	if err := s.write(&b); err != nil {
		t.Fatal(err)
	}
	if got, err := readState(&b); err != nil || len(got.patches) != len(s.patches) {
		t.Fatalf("%v, %v", got, err)
	}
}
