package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// piece is a frame and the object that it is in.
type piece struct {
	manifest.Frame
	object manifest.Object
}

// get fetches a range of an object, all of it with n < 0. It keeps trying until ctx ends.
func (r *Remote) get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	var p []byte
	err := r.breaker.retry(ctx, func(ctx context.Context) (err error) {
		// The slot is held per try: one that waits for the store to come back must not keep it.
		select {
		case r.gets <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-r.gets }()
		p, err = r.o.Store.Get(ctx, key, off, n)
		return err
	})
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, fmt.Errorf("get %s: %w: %w", key, ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return p, nil
}

// object fetches a whole object that is named by the hash of its content.
func (r *Remote) object(ctx context.Context, id manifest.ID) ([]byte, error) {
	p, err := r.get(ctx, r.key(id), 0, -1)
	if err != nil {
		return nil, err
	}
	if !id.Matches(p) {
		return nil, fmt.Errorf("%s: hash does not match: %w", r.key(id), ErrCorrupt)
	}
	return p, nil
}

// leaf returns an encoded leaf that has been checked, from the cache or the store. Callers that want the same one
// share a fetch; each stops waiting with its own ctx.
func (r *Remote) leaf(ctx context.Context, ref *manifest.LeafRef, o manifest.Object) ([]byte, error) {
	for {
		if p := r.leaves.get(ref); p != nil {
			return p, nil
		}
		done := r.leaves.flights.DoChan(fmt.Sprint(ref.Object, ref.Offset), func() (any, error) {
			p, err := r.get(ctx, r.key(o.ID()), int64(ref.Offset), int64(ref.Length))
			if err != nil {
				return nil, err
			}
			if manifest.Sum(p) != ref.Hash {
				return nil, fmt.Errorf("leaf at %d of %s: hash does not match: %w", ref.Offset, o.ID(), ErrCorrupt)
			}
			if _, err := manifest.DecodeLeaf(p); err != nil {
				return nil, fmt.Errorf("leaf at %d of %s: %w: %w", ref.Offset, o.ID(), ErrCorrupt, err)
			}
			r.leaves.put(ref, p)
			return p, nil
		})
		select {
		case res := <-done:
			if res.Err == nil {
				return res.Val.([]byte), nil
			}
			// The one who fetched for all of us may have given up where we have not.
			if res.Shared && ctx.Err() == nil && (errors.Is(res.Err, context.Canceled) || errors.Is(res.Err, context.DeadlineExceeded)) {
				continue
			}
			return nil, res.Err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// look finds the frames of a cell. Nothing is fetched for what is zero.
func (r *Remote) look(ctx context.Context, cell uint64) ([]piece, uint64, error) {
	select {
	case <-r.loaded:
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("wait for manifest: %w", ctx.Err())
	}
	for {
		place, home, err := r.lookup(cell)
		if err != nil {
			return nil, 0, err
		}
		var under []manifest.Frame
		if place.Leaf != nil {
			p, err := r.leaf(ctx, place.Leaf, home)
			if err == nil {
				var owner uint32
				owner, under = manifest.LeafCell(p, cell)
				if owner != r.o.Account && owner != 0 {
					return nil, 0, fmt.Errorf("cell %d belongs to account %d, this volume to %d: %w", cell, owner, r.o.Account, ErrCorrupt)
				}
			} else if !r.moved(cell, &place) {
				return nil, 0, err
			}
		}
		list, err := r.pieces(cell, &place, place.Combine(under))
		if list != nil || err != nil {
			return list, place.Generation, err
		}
	}
}

// lookup finds a cell in the map, and the object that its leaf is in.
func (r *Remote) lookup(cell uint64) (place manifest.Place, home manifest.Object, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if place = r.blocks.Lookup(cell); place.Leaf != nil {
		home, err = r.entry(place.Leaf.Object)
	}
	return place, home, err
}

// entry is an object's in the table. The caller holds mu, or is the one who commits.
func (r *Remote) entry(number uint32) (manifest.Object, error) {
	o := r.blocks.Object(number)
	if o == nil {
		return manifest.Object{}, fmt.Errorf("object %d is in no table: %w", number, ErrCorrupt)
	}
	return *o, nil
}

// pieces finds the objects of frames; nil when a commit has changed the cell or where it is.
func (r *Remote) pieces(cell uint64, place *manifest.Place, frames []manifest.Frame) ([]piece, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.same(cell, place) {
		return nil, nil
	}
	list := make([]piece, len(frames))
	for i := range frames {
		o, err := r.entry(frames[i].Object)
		if err != nil {
			return nil, err
		}
		list[i] = piece{frames[i], o}
	}
	return list, nil
}

// same reports whether a cell is still where it was. The caller holds mu.
func (r *Remote) same(cell uint64, place *manifest.Place) bool {
	now := r.blocks.Lookup(cell)
	if now.Generation != place.Generation || (now.Leaf == nil) != (place.Leaf == nil) || len(now.Frames) != len(place.Frames) {
		return false
	}
	return now.Leaf == nil || keyOf(now.Leaf) == keyOf(place.Leaf)
}

func (r *Remote) moved(cell uint64, place *manifest.Place) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return !r.same(cell, place)
}

// Cell fetches what the store holds of a cell. data is manifest.CellSize bytes with zeroes where mask
// has no bit. It keeps trying until ctx ends. The answer is current as long as Generation
// returns the same number.
func (r *Remote) Cell(ctx context.Context, n uint64) (data []byte, mask uint16, generation uint64, err error) {
	for {
		list, generation, err := r.look(ctx, n)
		if err == nil {
			data, mask, err = r.fetch(ctx, n, list)
		}
		if err == nil {
			return data, mask, generation, nil
		}
		// Objects that a compaction has emptied outlive any read by far; but a machine may have been
		// suspended in the middle of one.
		if errors.Is(err, ErrCorrupt) {
			if again, _, e := r.look(ctx, n); e == nil && !samePieces(list, again) {
				continue
			}
		}
		return nil, 0, 0, fmt.Errorf("fetch cell %d: %w", n, err)
	}
}

func samePieces(a, b []piece) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// fetch fetches the pieces of a cell, puts them together and tells which blocks these are.
func (r *Remote) fetch(ctx context.Context, cell uint64, list []piece) (data []byte, mask uint16, err error) {
	portions := make([]*portion, len(list))
	for i := range list {
		portions[i] = &portion{piece: list[i], cell: cell}
	}
	if err := r.open(ctx, portions, manifest.BlocksPerCell); err != nil {
		return nil, 0, err
	}
	data, mask = assemble(portions)
	return data, mask, nil
}

// Mask tells which blocks of a cell the store holds. It may have to fetch a leaf of the manifest.
func (r *Remote) Mask(ctx context.Context, cell uint64) (uint16, error) {
	list, _, err := r.look(ctx, cell)
	if err != nil {
		return 0, fmt.Errorf("look up cell %d: %w", cell, err)
	}
	var mask uint16
	for i := range list {
		mask |= list[i].Live
	}
	return mask, nil
}
