package volume

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// ScrubStatus is about the last complete pass and what all passes have found.
type ScrubStatus struct {
	Last     time.Time // zero before the first
	Bytes    int64     // read in it
	Repaired uint64    // blocks dropped to be fetched again
	Lost     uint64    // blocks that were not uploaded yet
}

type scrubState struct {
	mu sync.Mutex
	s  ScrubStatus
}

func (v *Volume) scrubbed() ScrubStatus {
	v.scrubs.mu.Lock()
	defer v.scrubs.mu.Unlock()
	return v.scrubs.s
}

// Scrub reads everything in the log once, at rate bytes per second (0 for a slow default), and checks it.
// A block that does not match is dropped when the store has it, too; of others it tells in the log and in the status:
// a client that reads one gets an error.
func (v *Volume) Scrub(ctx context.Context, rate int64) error {
	report, err := v.log.Scrub(ctx, log.ScrubOptions{Rate: rate, Bad: v.bad})
	if err != nil {
		return fmt.Errorf("scrub volume %s: %w", v.o.Name, err)
	}
	v.scrubs.mu.Lock()
	defer v.scrubs.mu.Unlock()
	v.scrubs.s.Last, v.scrubs.s.Bytes = time.Now(), report.Bytes
	return nil
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
	for i := range d.Len / blockSize {
		block := uint64(d.Off+i*blockSize) / blockSize
		e := v.index.Get(block)
		if !e.IsData() || v.pos(e) != d.Pos+i*blockSize {
			continue // nobody refers to it any more
		}
		err := v.discard(block, e)
		v.note(block, e, err)
	}
}

func (v *Volume) note(block uint64, e index.Entry, err error) {
	v.scrubs.mu.Lock()
	defer v.scrubs.mu.Unlock()
	if err == nil {
		v.scrubs.s.Repaired++
		return
	}
	v.scrubs.s.Lost++
	v.o.Log.Error("data on the disk is damaged and not in the store yet", "volume", v.o.Name, "block", block, "pos", v.pos(e), "error", err)
}
