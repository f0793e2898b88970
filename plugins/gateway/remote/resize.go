package remote

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// Resize makes the volume in the store larger or smaller; what lies beyond a smaller size is forgotten. Making it
// as large as it is does nothing, so it may be repeated after any error.
func (r *Remote) Resize(ctx context.Context, size int64) error {
	head := r.Head()
	if size <= 0 || size%manifest.BlockSize != 0 || size > manifest.MaxSize {
		return fmt.Errorf("resize volume %s to %d bytes: use a multiple of %d up to %d", r.o.Volume, size, manifest.BlockSize, int64(manifest.MaxSize))
	}
	if size < head.Size {
		if err := r.cut(ctx, size); err != nil {
			return fmt.Errorf("resize volume %s: %w", r.o.Volume, err)
		}
		head = r.Head()
	}
	if size == head.Size {
		return nil
	}
	next := head
	next.Size = size
	if err := r.publish(ctx, &next, func() error { r.blocks.Resize(size); return nil }); err != nil {
		return fmt.Errorf("resize volume %s: %w", r.o.Volume, err)
	}
	return nil
}

// cut removes what lies from size on for good: a leaf that still knew of it would bring it back when the volume grows
// again.
func (r *Remote) cut(ctx context.Context, size int64) error {
	first := uint64(size) / manifest.BlockSize
	r.mu.Lock()
	r.blocks.Zero(manifest.Range{First: first, Count: uint64(r.head.Size)/manifest.BlockSize - first})
	r.mu.Unlock()
	for {
		leaves := r.blocks.Untidy(maxLeaves, false)
		if r.blocks.Covered(first) {
			leaves = append(leaves, first/(manifest.CellsPerLeaf*manifest.BlocksPerCell))
		}
		if len(leaves) == 0 && len(r.head.Deltas) == 0 {
			return nil
		}
		if err := r.compact(ctx, job{leaves: leaves}); err != nil {
			return err
		}
		if len(leaves) == 0 {
			return nil
		}
	}
}
