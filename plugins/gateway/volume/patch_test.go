package volume

import (
	"bytes"
	"context"
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
