package recorded

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/volume"
	"github.com/ratchetos/ratchet/plugins/gateway/volume/history"
)

// Result of Check.
type Result struct {
	Entries, Flushes int // seen in the recording
	Tried            int // flushes at which the disk was opened
	Lost             int // of those, with less than acknowledged or no prefix
	Acked            int // ops covered by flushes in the end
	Changes          int // of the store
}

// checkTimeout bounds one opening.
const checkTimeout = 30 * time.Second

// Check opens the volume as it was at every step-th flush of a recording. lost is told of each state that is none it
// may have been in.
func Check(ctx context.Context, seed uint64, recording io.ReaderAt, journal io.Reader, step int, lost func(entry int, err error)) (Result, error) {
	var r Result
	disk, store := make([]byte, DiskSize), NewStoreAt(journal)
	judge := history.NewJudge(seed, make([]byte, VolumeSize))
	try := func(i int) error {
		r.Tried++
		found, err := contents(ctx, disk, store)
		if err == nil {
			err = judge.Match(found, r.Acked)
		}
		if err != nil {
			r.Lost++
			lost(i, err)
		}
		return ctx.Err()
	}
	formatted := false
	err := Read(recording, func(i int, e Entry) error {
		r.Entries++
		if n, ok := number(e.Mark, markStore); ok {
			r.Changes = n
			return store.Advance(n)
		}
		if n, ok := number(e.Mark, markAcked); ok {
			// From here on the disk is the volume's; before, it may be half formatted.
			formatted, r.Acked = true, n
			return nil
		}
		if e.Flush {
			if r.Flushes++; formatted && r.Flushes%step == 0 {
				if err := try(i); err != nil {
					return err
				}
			}
		}
		if e.Offset < 0 || e.Len < 0 || e.Offset > DiskSize-e.Len {
			return fmt.Errorf("entry %d writes outside the disk: %w", i, ErrFormat)
		}
		if e.Discard {
			clear(disk[e.Offset : e.Offset+e.Len])
		}
		copy(disk[e.Offset:], e.Data)
		return nil
	})
	if err == nil && formatted {
		err = try(r.Entries)
	}
	return r, err
}

// contents opens the disk and reads the whole volume.
func contents(ctx context.Context, disk []byte, at *StoreAt) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	store, err := at.Store(ctx)
	if err != nil {
		return nil, err
	}
	v, err := volume.Open(ctx, options(newOverlay(disk), store))
	if err != nil {
		return nil, err
	}
	defer v.Close()
	p := make([]byte, VolumeSize)
	return p, v.ReadAt(ctx, p, 0)
}
