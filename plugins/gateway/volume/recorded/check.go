package recorded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/volume"
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
	ops := &prefix{workload: NewWorkload(seed), volume: make([]byte, VolumeSize)}
	try := func(i int) error {
		r.Tried++
		found, err := contents(ctx, disk, store)
		if err == nil {
			err = ops.match(found, r.Acked)
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

// prefix is the volume after the ops so far.
type prefix struct {
	workload *Workload
	ops      int
	volume   []byte
}

// ahead bounds how many ops a client can have issued since the last flush it heard of.
const ahead = 400

func (p *prefix) next() (Op, int) {
	p.ops++
	return p.workload.Next(), p.ops
}

// match holds what was found to the volume after some number of ops that is at least acked. Of one
// op more each block may be there already or not.
func (p *prefix) match(found []byte, acked int) error {
	for p.ops < acked {
		o, i := p.next()
		o.Apply(p.volume, i)
	}
	if bytes.Equal(found, p.volume) {
		return nil
	}
	// The ops after acked are tried on a copy: the next flush may be known to have covered fewer.
	look := &prefix{workload: p.workload.clone(), ops: p.ops, volume: bytes.Clone(p.volume)}
	for range ahead {
		o, i := look.next()
		before := bytes.Clone(look.volume[o.Off&^(block-1) : min((o.Off+o.Len+block-1)&^(block-1), VolumeSize)])
		o.Apply(look.volume, i)
		if bytes.Equal(found, look.volume) || torn(found, look.volume, before, o) {
			return nil
		}
	}
	for at := range found {
		if found[at] != p.volume[at] {
			return fmt.Errorf("no prefix of %d or more ops: block %d differs from what was acknowledged", acked, at/block)
		}
	}
	return nil
}

// torn reports whether found is after, but for blocks of the op that are still as before.
func torn(found, after, before []byte, o Op) bool {
	first := o.Off &^ (block - 1)
	if !bytes.Equal(found[:first], after[:first]) || !bytes.Equal(found[first+int64(len(before)):], after[first+int64(len(before)):]) {
		return false
	}
	for at := int64(0); at < int64(len(before)); at += block {
		got := found[first+at : first+at+block]
		if !bytes.Equal(got, before[at:at+block]) && !bytes.Equal(got, after[first+at:first+at+block]) {
			return false
		}
	}
	return true
}
