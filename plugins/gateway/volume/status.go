package volume

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// counters are of this opening.
type counters struct {
	writes, zeroes, flushes atomic.Uint64
	hits, misses            atomic.Uint64
	stalls                  atomic.Uint64 // writes that found the log full
	rotten                  atomic.Uint64 // blocks that were damaged on the disk and that the store has
	lost                    atomic.Uint64 // times that one was met which nobody has
	unkept                  atomic.Uint64 // cells fetched and not kept for want of room
	wasted                  atomic.Uint64 // blocks fetched ahead that nobody read
	freed                   atomic.Uint64 // bytes the tail has passed
}

// Condition of a volume.
type Condition string

// Conditions.
const (
	Opening  Condition = "opening"  // the store has not answered yet
	Attached Condition = "attached" // the store's head is ours
	Detached Condition = "detached" // the store does not answer
	Fenced   Condition = "fenced"   // another gateway owns the volume
	Failed   Condition = "failed"
)

// Status is a volume at one moment. Counts are since it was opened, sizes in bytes.
type Status struct {
	State Condition
	Err   error // why, for Fenced and Failed
	Size  int64

	LogSize     int64         // of the log, which is the cache, too
	LogBytes    int64         // of it in use, clean or dirty
	LogFree     int64         // what writers can still take before they wait
	DirtyBytes  int64         // of the log, in no confirmed head
	OldestDirty time.Duration // how long the oldest of them has waited
	HeldBytes   int64         // of the volume that can be read without the store
	IndexBytes  int64         // of memory
	Stalled     int64         // writers that wait for room

	DurableSeq, UploadedSeq uint64 // groups, up to which everything is durable here, and in the store
	Epoch                   uint64 // in the store
	Held                    bool   // the upload is held

	Writes, Zeroes, Flushes uint64
	Hits, Misses            uint64 // reads served locally, reads that needed the store
	Stalls                  uint64 // writes that found the log full
	Rotten                  uint64 // blocks that were damaged on the disk and that the store has
	Lost                    uint64 // times that one was met which is not in the store
	Unkept                  uint64 // cells fetched that there was no room for
	AheadFetched, AheadRead uint64 // cells
	AheadWasted             uint64 // blocks freed unread
	Freed                   uint64 // bytes of log
	Batches, Uploaded       uint64 // batches, and bytes of log in them
	Scrub                   ScrubStatus
	Log                     log.Stats
	Remote                  remote.Health
}

// HitRatio is the share of reads served locally, 1 without any.
func (s *Status) HitRatio() float64 {
	if s.Hits+s.Misses == 0 {
		return 1
	}
	return float64(s.Hits) / float64(s.Hits+s.Misses)
}

// Status returns the present one.
func (v *Volume) Status() Status {
	c := &v.count
	s := Status{
		Size: v.Size(), LogSize: v.log.Size(), LogBytes: v.log.Used(), LogFree: v.log.Free(),
		HeldBytes: v.index.Held() * blockSize, IndexBytes: v.index.Bytes(), Stalled: v.clean.waiting.Load(),
		Writes: c.writes.Load(), Zeroes: c.zeroes.Load(), Flushes: c.flushes.Load(),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Stalls: c.stalls.Load(), Rotten: c.rotten.Load(), Lost: c.lost.Load(),
		Unkept: c.unkept.Load(), AheadWasted: c.wasted.Load(), Freed: c.freed.Load(),
		DurableSeq: v.log.Durable().Seq - 1, Held: v.hold.Load(), Log: v.log.Stats(), Scrub: v.scrubbed(),
	}
	s.AheadFetched, s.AheadRead = v.ahead.efficiency()
	p := &v.up
	p.mu.Lock()
	s.UploadedSeq, s.Epoch, s.Batches, s.Uploaded = p.cursor.Seq-1, p.epoch, p.batches, p.bytes
	s.DirtyBytes = max(v.dirty.Load()-p.cursor.Pos, 0)
	p.mu.Unlock()
	if s.DirtyBytes == 0 {
		s.UploadedSeq = s.DurableSeq // what is behind the cursor changes nothing
	}
	if t := p.oldestTime(); t != 0 && s.DirtyBytes > 0 {
		s.OldestDirty = time.Since(time.Unix(0, t))
	}
	s.Err, s.Remote = v.Err(), v.remote.Health()
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
