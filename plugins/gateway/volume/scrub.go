package volume

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// ScrubStatus is about the last complete pass and what all passes have found.
type ScrubStatus struct {
	Running  bool
	Done     int64     // bytes that the one under way has read
	Passes   uint64    // complete ones
	Last     time.Time // end of the last of them; zero before the first
	Bytes    int64     // read in it
	Repaired uint64    // blocks fetched again, or dropped to be fetched when somebody wants them
	Lost     uint64    // blocks that were not uploaded yet
}

// maxRefetched bounds the damaged blocks that a pass fetches again itself; more are fetched as they are read.
const maxRefetched = 4096

type scrubState struct {
	pass    sync.Mutex // one at a time
	dropped []uint64   // blocks of this pass, for it to fetch

	mu sync.Mutex
	s  ScrubStatus
}

func (v *Volume) scrubbed() ScrubStatus {
	v.scrubs.mu.Lock()
	defer v.scrubs.mu.Unlock()
	return v.scrubs.s
}

// Scrub reads everything in the log once, at rate bytes per second (0 for a slow default, negative for as fast as the
// disk is), and checks it. A block that does not match is fetched again when the store has it, too; of others it tells
// in the log and in the status: a client that reads one gets an error.
func (v *Volume) Scrub(ctx context.Context, rate int64) error {
	v.scrubs.pass.Lock()
	defer v.scrubs.pass.Unlock()
	v.scrubs.dropped = nil
	note := func(fn func(*ScrubStatus)) {
		v.scrubs.mu.Lock()
		defer v.scrubs.mu.Unlock()
		fn(&v.scrubs.s)
	}
	note(func(s *ScrubStatus) { s.Running, s.Done = true, 0 })
	report, err := v.log.Scrub(ctx, log.ScrubOptions{Rate: rate, Bad: v.bad, Progress: func(n int64) {
		note(func(s *ScrubStatus) { s.Done = n })
	}})
	if err == nil {
		v.refetch(ctx)
	}
	note(func(s *ScrubStatus) {
		if s.Running = false; err == nil {
			s.Passes, s.Last, s.Bytes = s.Passes+1, time.Now(), report.Bytes
		}
	})
	if err != nil {
		return fmt.Errorf("scrub volume %s: %w", v.o.Name, err)
	}
	return nil
}

// refetch brings back what this pass has dropped, so that it is here should the store go away. It is a hint: a store
// that does not answer now is asked again by whoever reads the block.
func (v *Volume) refetch(ctx context.Context) {
	for _, block := range v.scrubs.dropped {
		if err := v.Prefetch(ctx, int64(block)*blockSize, blockSize); err != nil {
			v.o.Log.Warn("damaged blocks are not fetched again yet", "volume", v.o.Name, "error", err)
			return
		}
	}
}

// bad looks after one damaged piece of the log.
func (v *Volume) bad(d log.Damage) {
	if d.Header {
		// The blocks of the group are read and checked one by one as clients want them; only a start
		// needs the header, and a checkpoint behind it makes that unnecessary.
		v.o.Log.Warn("group header on the disk is damaged", "volume", v.o.Name, "pos", d.Pos)
		v.clean.redo.Store(true)
		poke(v.tidy)
		return
	}
	if d.Kind == log.Patch {
		v.badPatch(uint64(d.Off)/blockSize, d.Pos)
		return
	}
	for i := range d.Len / blockSize {
		block := uint64(d.Off+i*blockSize) / blockSize
		e := v.index.Get(block)
		if !e.IsData() || v.pos(e) != d.Pos+i*blockSize {
			continue // nobody refers to it any more
		}
		v.note(block, v.pos(e), v.discard(block, e))
	}
}

// badPatch tells of a damaged patch, unless it has been merged: the store does not have it.
func (v *Volume) badPatch(block uint64, pos int64) {
	if slices.ContainsFunc(v.over.get(block), func(q patch) bool { return q.pos == pos }) {
		v.count.lost.Add(1)
		v.note(block, pos, ErrRotten)
	}
}

func (v *Volume) note(block uint64, pos int64, err error) {
	v.scrubs.mu.Lock()
	defer v.scrubs.mu.Unlock()
	if err == nil {
		v.scrubs.s.Repaired++
		if len(v.scrubs.dropped) < maxRefetched {
			v.scrubs.dropped = append(v.scrubs.dropped, block)
		}
		return
	}
	v.scrubs.s.Lost++
	v.o.Log.Error("data on the disk is damaged and not in the store yet", "volume", v.o.Name, "block", block, "pos", pos, "error", err)
}
