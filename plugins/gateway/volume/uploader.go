package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/gateway/upload"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// maxBatchRecords bounds a batch of very small or very long records.
const maxBatchRecords = 8192

const (
	firstRetry = 50 * time.Millisecond
	longRetry  = 10 * time.Second
)

// upload meets the store and then keeps it up to date, until the volume closes or fails.
func (v *Volume) upload(attached bool) {
	err := v.attach(attached)
	for err == nil {
		err = v.uploadNext()
	}
	if v.ctx.Err() == nil {
		v.fail(err)
	}
}

// attach makes the store's head ours and learns how far it is. Writes are admitted once the head is
// ours; or earlier, when the disk has owned the volume before and the store does not answer.
func (v *Volume) attach(attached bool) error {
	if !attached {
		if err := v.takeover(); err != nil {
			return err
		}
		v.admit()
		if err := v.remote.Load(v.ctx); err != nil {
			return err
		}
	}
	head := v.remote.Head()
	// Groups that the store has already are skipped by reading over them.
	c, _ := v.up.snapshot()
	oldest := time.Now()
	c, err := v.log.Scan(c, func(g *log.Group) error {
		if g.Seq > head.Seq {
			oldest = time.Unix(0, g.Time)
			return log.ErrStop
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.confirmed(c, head.Epoch, oldest, nil)
	v.admit()
	return nil
}

func (v *Volume) takeover() error {
	_, k := v.up.snapshot()
	local := remote.Local{Attached: true, Epoch: k.epoch, Confirmed: k.confirmed, Durable: v.log.DurableSeq()}
	late := time.AfterFunc(takeoverWait, v.admit)
	defer late.Stop()
	for pause := firstRetry; ; pause = min(2*pause, longRetry) {
		_, err := v.remote.Takeover(v.ctx, local)
		if err == nil {
			return nil
		}
		if !errors.Is(err, objstore.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		v.admit()
		// The log has grown meanwhile; the store can still not be ahead of what was durable at start.
		select {
		case <-time.After(pause):
		case <-v.ctx.Done():
			return v.ctx.Err()
		}
	}
}

// uploadNext waits until a batch is due, builds it and commits it.
func (v *Volume) uploadNext() error {
	if err := v.waitDue(); err != nil {
		return err
	}
	b := upload.New()
	c, _ := v.up.snapshot()
	oldest := time.Now() // what the scan does not see is younger
	next, err := v.log.Scan(c, func(g *log.Group) error {
		if b.Last() != 0 && (b.Bytes()+g.Len > v.o.MaxBatch || b.Records()+len(g.Records) > maxBatchRecords) {
			oldest = time.Unix(0, g.Time)
			return log.ErrStop
		}
		b.Add(g)
		return nil
	})
	if err != nil {
		return err
	}
	if b.Last() == 0 {
		return nil
	}
	for _, block := range b.Unresolved() {
		base, err := v.stored(block)
		if err != nil {
			return err
		}
		b.Resolve(block, base)
	}
	packed, err := b.Pack(v.remote.NewObject())
	if err != nil {
		return err
	}
	if err := v.commit(packed); err != nil {
		return err
	}
	v.confirmed(next, v.remote.Head().Epoch, oldest, b)
	return nil
}

// waitDue returns when there is a batch to cut.
func (v *Volume) waitDue() error {
	for {
		c, _ := v.up.snapshot()
		dirty := v.log.DurablePos() - c.Pos
		now, in := v.up.due(dirty, min(v.o.MaxBatch, v.log.Size()/4), v.o.MaxAge)
		if now {
			return nil
		}
		var timer <-chan time.Time
		if in >= 0 {
			timer = time.After(in)
		}
		select {
		case <-v.cut:
		case <-timer:
		case <-v.ctx.Done():
			return v.ctx.Err()
		}
	}
}

// commit tries until the head has moved or never will. An error that retrying does not obviously
// help, such as a refused key, does not end the volume: an operator may be repairing it.
func (v *Volume) commit(b *remote.Batch) error {
	for pause := firstRetry; ; pause = min(2*pause, longRetry) {
		err := v.remote.Commit(v.ctx, b)
		switch {
		case err == nil, v.ctx.Err() != nil,
			errors.Is(err, remote.ErrFenced), errors.Is(err, remote.ErrDiverged), errors.Is(err, manifest.ErrInvalid):
			return err
		}
		v.o.Log.Warn("upload failed, trying again", "volume", v.o.Name, "error", err, "in", pause)
		select {
		case <-time.After(pause):
		case <-v.ctx.Done():
			return v.ctx.Err()
		}
	}
}

// stored returns a block as the store has it at the confirmed head.
func (v *Volume) stored(block uint64) ([]byte, error) {
	cell, in := block/cellBlocks, block%cellBlocks
	if mask, err := v.remote.Mask(v.ctx, cell); err != nil {
		return nil, fmt.Errorf("merge block %d: %w", block, err)
	} else if mask&(1<<in) == 0 {
		return zeroes[:], nil
	}
	c, _ := v.up.snapshot()
	for looks := 0; looks < maxLooks; looks++ {
		e := v.index.get(block)
		if e.place() != inCache && (e.place() != inLog || e.pos() >= c.Pos) {
			break // changed since, or nowhere but in the store
		}
		p := log.AlignedBuffer(blockSize)
		if ok, err := v.readLocal(p, block, e.base()); ok || err != nil {
			return p, err
		}
	}
	data, _, _, err := v.remote.Cell(v.ctx, cell)
	if err != nil {
		return nil, fmt.Errorf("merge block %d: %w", block, err)
	}
	return data[in*blockSize : (in+1)*blockSize], nil
}

// confirmed tells everybody that a head covers everything before c. b is the batch that
// made it so, or nil when it was found that way.
func (v *Volume) confirmed(c log.Cursor, epoch uint64, oldest time.Time, b *upload.Batch) {
	v.cache.mu.Lock()
	v.over.confirm(v.index, c.Pos)
	v.cache.mu.Unlock()
	if b == nil {
		v.up.confirm(c, epoch, 0, oldest)
	} else {
		v.up.confirm(c, epoch, b.Bytes(), oldest)
		b.Patched(v.keepMerged)
	}
	poke(v.tidy)
}

// keepMerged caches a block that an upload has merged, since nothing local holds it whole.
func (v *Volume) keepMerged(block uint64, data []byte) {
	e := v.index.get(block)
	if e.place() != inStore {
		return
	}
	cell, in := block/cellBlocks, block%cellBlocks
	generation := v.remote.Generation(cell)
	buf := make([]byte, cellSize)
	copy(buf[in*blockSize:], data)
	var want [cellBlocks]entry
	want[in] = e.base()
	// Only this goroutine commits, so the store cannot have moved on since.
	if _, err := v.cache.fill(v.index, cell, buf, &want, generation, func() bool { return true }); err != nil {
		v.o.Log.Warn("cannot cache a merged block", "volume", v.o.Name, "block", block, "error", err)
	}
}
