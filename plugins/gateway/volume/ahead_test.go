package volume

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// stage finds what a stage of a pipeline has done.
func stage(t *testing.T, s *pipeline.Scheduler, name, stage string) pipeline.StageActivity {
	t.Helper()
	for _, p := range s.Snapshot().Pipelines {
		for _, st := range p.Stages {
			if p.Name == name && st.Name == stage {
				return st
			}
		}
	}
	t.Fatalf("no stage %s of %s", stage, name)
	return pipeline.StageActivity{}
}

// TestAheadOfReader reads in order from a blank disk. The read-ahead and the upload are pipelines of one scheduler.
func TestAheadOfReader(t *testing.T) {
	const n = 2 << 20
	store := newStore()
	o := testOptions(simdisk.New(testDisk), store)
	o.Pipelines = pipeline.NewScheduler(pipeline.Limits{})
	v := mustOpen(t, o)
	data := pattern(1, n)
	for off := 0; off < n; off += 256 << 10 {
		mustWrite(t, v, data[off:off+256<<10], int64(off))
	}
	mustUpload(t, v)
	if st := stage(t, o.Pipelines, "upload v", "pack"); st.Items == 0 || st.Bytes < n {
		t.Errorf("packed %d items of %d bytes, want %d bytes", st.Items, st.Bytes, n)
	}
	if st := stage(t, o.Pipelines, "upload v", "put"); st.Bytes < n { // what was written does not compress
		t.Errorf("%d bytes were put, want %d", st.Bytes, n)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if s := o.Pipelines.Snapshot(); len(s.Pipelines) != 0 || s.Held != 0 {
		t.Errorf("left behind: %+v", s)
	}

	o.Disk = simdisk.New(testDisk) // blank: all is in the store
	v = mustOpen(t, o)
	for off := int64(0); off < n; off += 4096 {
		if !bytes.Equal(mustRead(t, v, off, 4096), data[off:off+4096]) {
			t.Fatalf("at %d other data than was written", off)
		}
	}
	if st := stage(t, o.Pipelines, "read-ahead v", "fetch"); st.Items < n/cellSize/2 {
		t.Errorf("%d cells of %d were fetched ahead", st.Items, n/cellSize)
	}
}

// TestIdleCutIsNotBusy: the upload of a volume that nobody writes to has next to nothing to do.
func TestIdleCutIsNotBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(simdisk.New(testDisk), newStore())
		o.Pipelines = pipeline.NewScheduler(pipeline.Limits{})
		mustOpen(t, o)
		time.Sleep(10 * time.Second)
		if st := stage(t, o.Pipelines, "upload v", "cut"); st.Items < 5 || st.Busy > time.Second {
			t.Errorf("cut was busy for %s of ten seconds, with %d items", st.Busy, st.Items)
		}
	})
}
