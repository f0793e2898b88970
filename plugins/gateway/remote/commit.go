package remote

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Batch is what Commit publishes: the frames of a run of the log, packed into Object, and the zeroes.
type Batch struct {
	Object *manifest.Writer // from NewObject; nil when there are no frames
	Zeros  []manifest.Range
	Frames []manifest.CellFrame
	Seq    uint64 // last sequence number in it

	put bool // the object is in the store
}

// maxSpares is how many objects' memory is kept for the next ones: one is sent while another is made, and housekeeping
// makes one of each kind. maxSpare bounds each, in bytes.
const (
	maxSpares = 4
	maxSpare  = 16 << 20
)

// tidyEvery is how often Commit tidies up when nobody else does.
const tidyEvery = time.Minute

// NewObject starts the object of the next batch. Takeover must have returned.
func (r *Remote) NewObject() *manifest.Writer {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.reserve(manifest.KindData)
	if !r.equip(w) && r.usual > 0 {
		w.Reuse(make([]byte, 0, r.usual))
	}
	return w
}

// equip gives an object memory that is kept, if there is any. The caller holds mu.
func (r *Remote) equip(w *manifest.Writer) bool {
	n := len(r.spares)
	if n == 0 {
		return false
	}
	w.Reuse(r.spares[n-1])
	r.spares = r.spares[:n-1]
	return true
}

// keep keeps the memory of a batch's object that is in the store for the next ones.
func (r *Remote) keep(data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.usual = min(len(data)+len(data)/16, maxSpare)
	r.spare(data)
}

// spare keeps the memory of an object for the next ones. The caller holds mu.
func (r *Remote) spare(data []byte) {
	if cap(data) <= maxSpare && len(r.spares) < maxSpares {
		r.spares = append(r.spares, data)
	}
}

// Rest lets the memory go that is kept for the next objects: there will be none soon.
func (r *Remote) Rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spares, r.usual = nil, 0
}

// reserve gives out a number. One that is never committed stays unused in this epoch.
func (r *Remote) reserve(kind manifest.Kind) *manifest.Writer {
	w := manifest.NewWriter(kind, uint32(r.head.Epoch), r.next, r.sealer)
	if r.next < math.MaxUint32 {
		r.next++
	}
	return w
}

// Put uploads a batch's object before its turn to be committed has come; Commit then needs not. It keeps trying while the
// store is down. Any number of goroutines may call it at once, each for a batch of its own. What is never
// committed is garbage of its epoch.
func (r *Remote) Put(ctx context.Context, b *Batch) error {
	if b.put || b.Object == nil || b.Object.Len() == 0 {
		return nil
	}
	data, o := b.Object.Finish()
	if err := r.put(ctx, o.ID(), data); err != nil {
		return fmt.Errorf("put the object of batch %d: %w", b.Seq, err)
	}
	b.put = true
	return nil
}

// Commit publishes the batch that follows the head. It keeps trying while the store is down; nil means
// that the head has been confirmed. ErrFenced and ErrDiverged are for good; after any other error
// the same batch may be given again.
func (r *Remote) Commit(ctx context.Context, b *Batch) error {
	if err := r.makeRoom(ctx); err != nil {
		return fmt.Errorf("commit batch %d: %w", b.Seq, err)
	}
	head := r.Head()
	d := &manifest.Delta{Epoch: head.Epoch, After: head.Seq, Seq: b.Seq, Zeros: b.Zeros, Frames: b.Frames}
	next := head
	next.Seq, next.Next = b.Seq, r.nextNumber()

	var data []byte
	if b.Object != nil && b.Object.Len() > 0 {
		var o manifest.Object
		data, o = b.Object.Finish()
		d.Objects = []manifest.Object{o}
	}
	if err := r.blocks.Check(d); err != nil {
		return fmt.Errorf("commit batch %d: %w", b.Seq, err)
	}
	delta := d.Encode()
	id := manifest.ID{Kind: manifest.KindDelta, Epoch: head.Epoch, Number: b.Seq, Tag: manifest.Sum(delta).Tag()}
	next.Deltas = append(slices.Clip(head.Deltas), id.String())
	g, gctx := errgroup.WithContext(ctx)
	if data != nil && !b.put {
		g.Go(func() error { return r.put(gctx, d.Objects[0].ID(), data) })
	}
	g.Go(func() error { return r.put(gctx, id, delta) })
	// Whatever the head will name must be there before the head.
	if err := g.Wait(); err != nil {
		return fmt.Errorf("commit batch %d: %w", b.Seq, err)
	}
	if err := r.publish(ctx, &next, func() error { return r.blocks.Apply(d) }); err != nil {
		return fmt.Errorf("commit batch %d: %w", b.Seq, err)
	}
	r.keep(data)
	// Under constant load nobody finds time to tidy up; garbage must not grow without bound for that. A failure that
	// matters will show at the next commit; this one has succeeded.
	if r.o.Now().Sub(r.lastTidied) > tidyEvery {
		_, _ = r.Tidy(ctx)
	} else if s := r.blocks.Stats(); s.Bytes-s.Live > busyGarbage*s.Live+minGarbage {
		_ = r.relieve(ctx)
	}
	return nil
}

func (r *Remote) nextNumber() uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.next
}

// publish moves the head and then, under the lock, the map.
func (r *Remote) publish(ctx context.Context, next *manifest.Head, apply func() error) error {
	err := r.breaker.retry(ctx, func(ctx context.Context) error { return r.moveHead(ctx, next) })
	if err != nil {
		return fmt.Errorf("move head to %d: %w", next.Seq, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head = *next
	return apply()
}

// put creates an object that is named by its content: finding it there already is success.
func (r *Remote) put(ctx context.Context, id manifest.ID, p []byte) error {
	if r.o.Pace != nil {
		if err := r.o.Pace(ctx, int64(len(p))); err != nil {
			return fmt.Errorf("put %v: %w", id, err)
		}
	}
	err := r.breaker.retry(ctx, func(ctx context.Context) error {
		_, err := r.o.Store.PutIfAbsent(ctx, r.key(id), p)
		return err
	})
	if err != nil && !errors.Is(err, objstore.ErrExists) {
		return fmt.Errorf("put %v: %w", id, err)
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
	case found.Session == r.session && found.Seq == next.Seq && found.Root == next.Root &&
		found.Size == next.Size && slices.Equal(found.Deltas, next.Deltas):
		r.etag = etag
		return nil
	}
	return r.stranger(found)
}

// stranger says what a head is that is not ours.
func (r *Remote) stranger(found *manifest.Head) error {
	if ours := r.head.Epoch; found.Session != r.session && found.Epoch > ours {
		return fmt.Errorf("epoch %d by disk %s, ours is %d: %w", found.Epoch, found.Owner, ours, ErrFenced)
	}
	return fmt.Errorf("head at %d of epoch %d: %w", found.Seq, found.Epoch, ErrDiverged)
}
