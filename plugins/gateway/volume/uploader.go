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
	oldest := v.up.oldestTime()
	if c.Seq <= head.Seq {
		var err error
		c, err = v.log.Scan(c, log.ScanOptions{Headers: true}, func(g *log.Group) error {
			if g.Seq > head.Seq {
				oldest = g.Time
				return log.ErrStop
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := v.confirmed(c, head.Seq, head.Epoch, 0, oldest); err != nil {
		return err
	}
	v.admit()
	return nil
}

func (v *Volume) takeover() error {
	m := v.mark()
	local := remote.Local{Attached: true, Epoch: m.epoch, Confirmed: m.headSeq, Durable: v.log.Durable().Seq - 1}
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
	due, err := v.waitDue()
	if err != nil {
		return err
	}
	if err := v.insist(v.resizeStore); err != nil {
		return err
	}
	if !due {
		return v.tidyStore()
	}
	if v.skipClean() {
		return nil
	}
	// Only what is durable may leave: the store must never be ahead of the disk (S8).
	if err := v.log.Flush(v.ctx); err != nil {
		return v.explain(err)
	}
	from, _ := v.up.snapshot()
	c := collector{v: v, batch: upload.New()}
	defer c.batch.Free()
	next, err := v.log.Scan(from, log.ScanOptions{Headers: true}, c.take)
	if err != nil || c.batch.Last() == 0 {
		return err
	}
	if early := v.early.Load(); early != nil {
		c.batch.Add(&log.Group{Seq: c.batch.Last(), Records: []log.Record{*early}})
	}
	head := v.remote.Head()
	if c.dirty > 0 {
		if head, err = v.commit(c.batch); err != nil {
			return err
		}
	}
	if c.oldest == 0 && v.dirty.Load() > next.Pos {
		c.oldest = time.Now().UnixNano() // what the scan has not seen is younger
	}
	if err := v.confirmed(next, head.Seq, head.Epoch, c.batch.Bytes(), c.oldest); err != nil {
		return err
	}
	if v.batches++; v.batches%tidyAfter == 0 {
		return v.tidyStore()
	}
	return nil
}

// skipClean moves the cursor to the end of the durable log if nothing behind it has to be uploaded.
func (v *Volume) skipClean() bool {
	end := v.log.Durable()
	c, _ := v.up.snapshot()
	if v.dirty.Load() > c.Pos {
		return false
	}
	if end.Pos > c.Pos {
		head := v.remote.Head()
		if err := v.confirmed(end, head.Seq, head.Epoch, 0, 0); err != nil {
			v.o.Log.Debug("cannot note that nothing is dirty", "volume", v.o.Name, "error", err)
		}
	}
	return true
}

// waitDue returns true when there is a batch to cut, or clean data to pass, and false when there has been
// nothing to do for a while.
func (v *Volume) waitDue() (bool, error) {
	idle := time.NewTimer(tidyEvery)
	defer idle.Stop()
	for {
		c, wanted := v.up.snapshot()
		dirty := v.dirty.Load()
		var timer <-chan time.Time
		if !v.hold.Load() {
			age := time.Since(time.Unix(0, v.up.oldestTime()))
			switch {
			case dirty <= c.Pos && v.head.Load()-c.Pos >= v.o.MaxBatch && v.log.Durable().Pos > c.Pos:
				return true, nil // the tail may want to go there
			case dirty <= c.Pos:
			case dirty-c.Pos >= min(v.o.MaxBatch, v.log.Size()/4), wanted > c.Pos, age >= v.o.MaxAge:
				return true, nil
			default:
				timer = time.After(v.o.MaxAge - age)
			}
		}
		if timer == nil {
			// Writes do not wake us one by one.
			timer = time.After(min(v.o.MaxAge, time.Second))
		}
		if v.storeResizes() {
			return false, nil
		}
		select {
		case <-v.cut:
		case <-timer:
		case <-idle.C:
			return false, nil
		case <-v.ctx.Done():
			return false, v.ctx.Err()
		}
	}
}

// commit publishes a batch and returns the head that has it. It tries until the head has moved or never
// will. An error that retrying does not obviously help, such as a refused key, does not end the volume:
// an operator may be repairing it.
func (v *Volume) commit(b *upload.Batch) (manifest.Head, error) {
	for _, block := range b.Unresolved() {
		base, err := v.stored(block)
		if err != nil {
			return manifest.Head{}, err
		}
		b.Resolve(block, base)
	}
	packed, err := b.Pack(v.remote.NewObject())
	if err != nil {
		return manifest.Head{}, err
	}
	if err := v.insist(func() error { return v.remote.Commit(v.ctx, packed) }); err != nil {
		return manifest.Head{}, err
	}
	return v.remote.Head(), nil
}

// insist repeats what the store refuses for reasons that may pass.
func (v *Volume) insist(do func() error) error {
	for pause := firstRetry; ; pause = min(2*pause, longRetry) {
		err := do()
		if err == nil || v.hopeless(err) {
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

func (v *Volume) hopeless(err error) bool {
	return v.ctx.Err() != nil || errors.Is(err, remote.ErrFenced) || errors.Is(err, remote.ErrDiverged) || errors.Is(err, manifest.ErrInvalid)
}

// stored returns a block as the store has it at the confirmed head. It waits for the store however long
// that takes: nothing can be uploaded without.
func (v *Volume) stored(block uint64) ([]byte, error) {
	cell, in := block/cellBlocks, block%cellBlocks
	var data []byte
	err := v.insist(func() (err error) {
		data, _, _, err = v.remote.Cell(v.ctx, cell)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("merge block %d: %w", block, err)
	}
	return data[in*blockSize : (in+1)*blockSize], nil
}

// tidyEvery is how often the store is looked after while there is nothing to upload, and tidyAfter after how many batches
// when there always is.
const (
	tidyEvery = time.Second
	tidyAfter = 32
)

// tidyStore does a piece of housekeeping in the store.
func (v *Volume) tidyStore() error {
	_, err := v.remote.Tidy(v.ctx)
	if err == nil || v.hopeless(err) {
		return err
	}
	v.o.Log.Warn("cannot tidy up the store", "volume", v.o.Name, "error", err)
	return nil
}

// confirmed tells everybody that a head covers everything before c.
func (v *Volume) confirmed(c log.Cursor, headSeq, epoch uint64, bytes, oldest int64) error {
	if err := v.setMark(nil, func(m *mark) { m.confirmed, m.headSeq, m.epoch = c, headSeq, epoch }); err != nil {
		return err
	}
	v.mu.Lock()
	v.over.confirm(v.index, c.Pos)
	v.mu.Unlock()
	v.up.confirm(c, headSeq, epoch, bytes, oldest)
	poke(v.tidy)
	return nil
}
