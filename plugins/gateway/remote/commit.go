package remote

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Batch is what Commit publishes: the frames of a run of the log and where they are in Data.
// Frames have no Object yet.
type Batch struct {
	Data   []byte
	Zeros  []manifest.Range
	Frames []manifest.CellFrame
	Seq    uint64 // last sequence number in it
}

// Commit publishes the batch that follows the head. It keeps trying while the store is down; nil means
// that the head has been confirmed. ErrFenced and ErrDiverged are for good.
func (r *Remote) Commit(ctx context.Context, b *Batch) error {
	head := r.Head()
	d := &manifest.Delta{Epoch: head.Epoch, After: head.Seq, Seq: b.Seq, Zeros: b.Zeros, Frames: b.Frames}
	next := head
	next.Seq = b.Seq
	next.Deltas = append([]string(nil), head.Deltas...)

	g, gctx := errgroup.WithContext(ctx)
	if len(b.Data) > 0 {
		o := &manifest.Object{Key: manifest.Key(r.prefix, "data", head.Epoch, b.Seq, manifest.Sum(b.Data))}
		for i := range d.Frames {
			d.Frames[i].Object = o
		}
		g.Go(func() error { return r.put(gctx, o.Key, b.Data) })
	}
	if len(next.Deltas) >= manifest.MaxDeltas {
		// The map is exactly at the head here, so it replaces the deltas so far.
		r.mu.RLock()
		full := r.blocks.Encode()
		r.mu.RUnlock()
		next.Full, next.Deltas = manifest.Key(r.prefix, "full", head.Epoch, head.Seq, manifest.Sum(full)), nil
		g.Go(func() error { return r.put(gctx, next.Full, full) })
	}
	delta := d.Encode()
	key := manifest.Key(r.prefix, "delta", head.Epoch, b.Seq, manifest.Sum(delta))
	next.Deltas = append(next.Deltas, key)
	g.Go(func() error { return r.put(gctx, key, delta) })
	// Whatever the head will name must be there before the head.
	if err := g.Wait(); err != nil {
		return fmt.Errorf("commit batch %d: %w", b.Seq, err)
	}
	if err := r.breaker.retry(ctx, 0, func(ctx context.Context) error { return r.moveHead(ctx, &next) }); err != nil {
		return fmt.Errorf("commit head %d: %w", b.Seq, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.blocks.Apply(d); err != nil {
		return fmt.Errorf("commit batch %d: %w", b.Seq, err)
	}
	r.head = next
	return nil
}

// put creates an object that is named by its content: finding it there already is success.
func (r *Remote) put(ctx context.Context, key string, p []byte) error {
	err := r.breaker.retry(ctx, int64(len(p)), func(ctx context.Context) error {
		_, err := r.store.PutIfAbsent(ctx, key, p)
		return err
	})
	if err != nil && !errors.Is(err, objstore.ErrExists) {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// moveHead is one try of the compare-and-swap. When it finds another head than expected it
// looks whose that is: an earlier try of ours may have come through unheard.
func (r *Remote) moveHead(ctx context.Context, next *manifest.Head) error {
	err := r.putHead(ctx, next, r.etag)
	if !errors.Is(err, objstore.ErrPrecondition) {
		return err
	}
	found, etag, err := r.loadHead(ctx)
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return fmt.Errorf("the head is gone: %w", ErrDiverged)
	case err != nil:
		return err
	case found.Session == r.session && found.Seq == next.Seq:
		r.etag = etag
		return nil
	case found.Session != r.session && found.Epoch > next.Epoch:
		return fmt.Errorf("epoch %d by disk %s, ours is %d: %w", found.Epoch, found.Owner, next.Epoch, ErrFenced)
	}
	return fmt.Errorf("head at %d of epoch %d: %w", found.Seq, found.Epoch, ErrDiverged)
}
