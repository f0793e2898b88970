package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

const (
	// maxStep ends a step that has written this many bytes of leaves or of gathered frames. What one has written
	// therefore fits in one object of each kind.
	maxStep = 4 << 20
	// maxLeaves bounds the leaves of one step.
	maxLeaves = 4096
)

// job says what one step of compaction does.
type job struct {
	leaves []uint64        // to write anew, as many as fit
	gather bool            // cells in too many frames into one
	leave  map[uint32]bool // data objects that cells are to be moved out of
	dead   []manifest.ID   // objects that nothing refers to and that are in no table
}

// makeRoom keeps the deltas, and what they have laid over the leaves, within their bounds.
func (r *Remote) makeRoom(ctx context.Context) error {
	for r.blocks.Pending() >= r.maxPending {
		if err := r.compact(ctx, job{leaves: r.blocks.Busiest(maxLeaves)}); err != nil {
			return err
		}
	}
	if len(r.head.Deltas) >= manifest.MaxDeltas {
		return r.compact(ctx, job{}) // makes them one
	}
	return nil
}

// compact plans a step, publishes it and moves the head.
func (r *Remote) compact(ctx context.Context, j job) error {
	step := r.blocks.Begin()
	objects, _, err := r.rewrite(ctx, step, &j)
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return r.settle(ctx, step, objects, j.dead)
}

// rewrite writes the leaves of a job anew, as many as fit in a step, but for those out of which nothing has to be moved
// when that is the job. It returns the objects to publish, and how many leaves are in them. What is damaged is passed over; it
// is an error when nothing else is left.
func (r *Remote) rewrite(ctx context.Context, step *manifest.Step, j *job) (objects []manifest.Published, n int, err error) {
	r.mu.Lock()
	pack, data := r.reserve(manifest.KindLeaf), r.reserve(manifest.KindData)
	if len(j.leaves) > 0 {
		r.equip(pack)
	}
	if j.leave != nil {
		r.equip(data)
	}
	r.mu.Unlock()
	var damage error
waves:
	for wave := range slices.Chunk(j.leaves, tidyGets) {
		olds := r.fetchLeaves(ctx, wave)
		for i, no := range wave {
			if pack.Len() >= maxStep || data.Len() >= maxStep {
				break waves
			}
			written, err := r.rewriteLeaf(ctx, step, no, &olds[i], pack, data, j)
			switch {
			case errors.Is(err, ErrCorrupt):
				damage = fmt.Errorf("leaf %d: %w", no, err)
			case err != nil:
				return nil, 0, fmt.Errorf("leaf %d: %w", no, err)
			case written:
				n++
			}
		}
	}
	if n == 0 && damage != nil {
		return nil, 0, damage
	}
	for _, w := range []*manifest.Writer{pack, data} {
		if w.Len() > 0 {
			p, o := w.Finish()
			step.Add(o)
			objects = append(objects, manifest.Published{ID: o.ID(), Data: p})
		}
	}
	return objects, n, nil
}

// rewriteLeaf writes one leaf anew and reports whether it did.
func (r *Remote) rewriteLeaf(ctx context.Context, step *manifest.Step, no uint64, fetched *fetchedLeaf, pack, data *manifest.Writer, j *job) (bool, error) {
	if j.leave != nil {
		r.left = no // also when it fails: it must not keep the others from being looked at
	}
	if fetched.err != nil {
		return false, fetched.err
	}
	var old *manifest.Leaf
	if fetched.encoded != nil {
		var err error
		if old, err = manifest.DecodeLeaf(fetched.encoded); err != nil {
			return false, err
		}
	}
	next := step.Fold(no, old, r.o.Account)
	found, err := r.gather(ctx, next, data, j)
	if err != nil || j.leave != nil && found == 0 {
		return false, err
	}
	var ref manifest.LeafRef
	if next.Mask() != 0 {
		p := next.Encode()
		ref = pack.AddLeaf(p)
		if before, ok := r.blocks.Ref(no); ok {
			r.leaves.replace(&before, &ref, p)
		}
	}
	step.Place(old, next, ref)
	return true, nil
}

// settle publishes a step.
func (r *Remote) settle(ctx context.Context, step *manifest.Step, objects []manifest.Published, dead []manifest.ID) error {
	head := r.Head()
	plan := step.Plan(head.Epoch, head.DeltaIDs(), dead)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(tidyGets)
	for _, o := range append(objects, plan.Objects...) {
		g.Go(func() error { return r.put(gctx, o.ID, o.Data) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	next := head
	next.Next, next.Root, next.Deltas = r.nextNumber(), plan.Root.String(), nil
	if !plan.Delta.IsZero() {
		next.Deltas = []string{plan.Delta.String()}
	}
	if r.o.mutant == mutantEarly {
		_ = r.erase(ctx, plan.Graves())
	}
	err := r.publish(ctx, &next, func() error { r.blocks.Finish(plan); return nil })
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	r.bury(r.blocks.Graves())
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range objects {
		r.spare(o.Data)
	}
	return nil
}

// fetchedLeaf is a leaf as it is encoded, nil where there is none, or why it cannot be had.
type fetchedLeaf struct {
	encoded []byte
	err     error
}

// fetchLeaves fetches the leaves of the given numbers.
func (r *Remote) fetchLeaves(ctx context.Context, numbers []uint64) []fetchedLeaf {
	list := make([]fetchedLeaf, len(numbers))
	var g sync.WaitGroup
	for i, no := range numbers {
		ref, ok := r.blocks.Ref(no)
		if !ok {
			continue
		}
		l := &list[i]
		home, err := r.entry(ref.Object)
		if err != nil {
			l.err = err
			continue
		}
		g.Go(func() { l.encoded, l.err = r.leaf(ctx, &ref, home) })
	}
	g.Wait()
	return list
}

// Compact folds all deltas into leaves and gathers every cell that lies in too many frames. Afterwards a
// miss costs four gets at most.
func (r *Remote) Compact(ctx context.Context) error {
	for {
		leaves := r.blocks.Busiest(maxLeaves)
		if len(leaves) == 0 {
			leaves = r.blocks.Untidy(maxLeaves, true)
		}
		if len(leaves) == 0 && len(r.head.Deltas) == 0 {
			return nil
		}
		if err := r.compact(ctx, job{leaves: leaves, gather: true}); err != nil {
			return err
		}
	}
}
