package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/gateway/upload/line"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	firstRetry = 50 * time.Millisecond
	longRetry  = 10 * time.Second
)

// batchesHeld is how much is held in memory at once for the upload, in batches: while one is on its way to the store the
// next one is made.
const batchesHeld = 2

// upload meets the store and then keeps it up to date, until the volume closes or fails.
func (v *Volume) upload(attached bool) {
	err := v.attach(attached)
	if err == nil {
		err = line.Run(v.ctx, v.o.Pipelines, v.o.Name, pipeline.Options{Memory: batchesHeld * v.o.MaxBatch}, v.newCutter(), patient{v})
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
		if c, oldest, err = v.unconfirmed(c, head.Seq); err != nil {
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
		if v.hopeless(err) || unfit(err) {
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

// unfit reports whether this store, or what it holds, cannot be the volume's as both are configured.
func unfit(err error) bool {
	return errors.Is(err, remote.ErrSize) || errors.Is(err, remote.ErrKey) || errors.Is(err, manifest.ErrTooNew) ||
		errors.Is(err, objstore.ErrNoConditional)
}

// insist repeats what the store refuses for reasons that may pass. ctx ends it: when one stage of the upload has found
// out that it is for good, as one that is fenced does, the others must not go on.
func (v *Volume) insist(ctx context.Context, do func() error) error {
	for pause := firstRetry; ; pause = min(2*pause, longRetry) {
		err := do()
		if err == nil || ctx.Err() != nil || v.hopeless(err) {
			return err
		}
		v.o.Log.Warn("upload failed, trying again", "volume", v.o.Name, "error", err, "in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *Volume) hopeless(err error) bool {
	return v.ctx.Err() != nil || errors.Is(err, remote.ErrFenced) || errors.Is(err, remote.ErrDiverged) || errors.Is(err, manifest.ErrInvalid)
}

// patient is the store for the upload: it goes on trying for as long as there is a point in it.
type patient struct{ v *Volume }

var _ line.Store = patient{}

func (p patient) NewObject() *manifest.Writer { return p.v.remote.NewObject() }

func (p patient) Put(ctx context.Context, b *remote.Batch) error {
	return p.v.insist(ctx, func() error { return p.v.remote.Put(ctx, b) })
}

func (p patient) Commit(ctx context.Context, b *remote.Batch) error {
	return p.v.insist(ctx, func() error {
		// A batch that was being cut while the volume grew may hold what is beyond the store's end.
		if p.v.remote.Head().Size < p.v.Size() {
			if err := p.v.resizeStore(); err != nil {
				return err
			}
		}
		return p.v.remote.Commit(ctx, b)
	})
}

// stored returns a block as the store has it at the confirmed head. It waits for the store however long
// that takes: nothing can be uploaded without.
func (v *Volume) stored(ctx context.Context, block uint64) ([]byte, error) {
	cell, in := block/cellBlocks, block%cellBlocks
	var data []byte
	err := v.insist(ctx, func() (err error) {
		data, _, _, err = v.remote.Cell(ctx, cell)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("merge block %d: %w", block, err)
	}
	return data[in*blockSize : (in+1)*blockSize], nil
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
