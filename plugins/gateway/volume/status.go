package volume

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/remote"
)

type counters struct {
	writes, hits, misses, corrupt atomic.Uint64
}

func (c *counters) read(missed bool) {
	if missed {
		c.misses.Add(1)
	} else {
		c.hits.Add(1)
	}
}

// State of a volume.
type State string

// States.
const (
	Opening  State = "opening"  // the store has not answered yet
	Attached State = "attached" // the store's head is ours
	Detached State = "detached" // the store does not answer
	Fenced   State = "fenced"   // another gateway owns the volume
	Failed   State = "failed"
)

// Status is a volume at one moment.
type Status struct {
	State       State
	Err         error // why, for Fenced and Failed
	Size        int64
	LogBytes    int64 // in use, of LogSize
	LogSize     int64
	DirtyBytes  int64         // in the log and in no confirmed head
	OldestDirty time.Duration // how long the oldest of them has waited
	CachedBytes int64
	CacheSize   int64
	DurableSeq  uint64
	UploadedSeq uint64
	Epoch       uint64
	Writes      uint64
	Hits        uint64 // reads served locally
	Misses      uint64 // reads that needed the store
	Corrupt     uint64 // cached blocks that did not match their checksum
	Batches     uint64 // uploaded
	Uploaded    uint64 // bytes of log uploaded
	Remote      remote.Health
}

// Status returns the present one.
func (v *Volume) Status() Status {
	p := &v.up
	p.mu.Lock()
	s := Status{
		DirtyBytes: v.log.DurablePos() - p.cursor.Pos, DurableSeq: p.durable, UploadedSeq: p.confirmed,
		Epoch: p.epoch, Batches: p.batches, Uploaded: p.bytes,
	}
	if !p.oldest.IsZero() {
		s.OldestDirty = time.Since(p.oldest)
	}
	p.mu.Unlock()
	s.Err, s.Remote = v.Err(), v.remote.Health()
	s.Size, s.LogBytes, s.LogSize = v.o.Size, v.log.Used(), v.log.Size()
	s.CachedBytes, s.CacheSize = v.cache.bytes(), int64(len(v.cache.slots))*cellSize
	s.Writes, s.Hits, s.Misses, s.Corrupt = v.count.writes.Load(), v.count.hits.Load(), v.count.misses.Load(), v.count.corrupt.Load()
	switch {
	case errors.Is(s.Err, remote.ErrFenced):
		s.State = Fenced
	case s.Err != nil:
		s.State = Failed
	case s.Remote.Down:
		s.State = Detached
	case !v.remote.Loaded():
		s.State = Opening
	default:
		s.State = Attached
	}
	return s
}
