package remote

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// Load fetches the manifest that the head names, all but its leaves. It keeps trying while the store is down.
func (r *Remote) Load(ctx context.Context) error {
	head := r.Head()
	blocks := manifest.NewMap(head.Size)
	if id := head.RootID(); !id.IsZero() {
		p, err := r.object(ctx, id)
		if err != nil {
			return err
		}
		root, err := manifest.DecodeRoot(p)
		if err != nil {
			return fmt.Errorf("%s: %w: %w", head.Root, ErrCorrupt, err)
		}
		blocks, err = manifest.Restore(id, root, head.Size, func(parts []manifest.PartID) ([][]byte, error) {
			ids := make([]manifest.ID, len(parts))
			for i := range parts {
				ids[i] = parts[i].ID
			}
			return r.objects(ctx, ids)
		})
		if err != nil {
			return fmt.Errorf("%s: %w: %w", head.Root, ErrCorrupt, err)
		}
	}
	ids := head.DeltaIDs()
	deltas, err := r.objects(ctx, ids)
	if err != nil {
		return err
	}
	for i, p := range deltas {
		d, err := manifest.DecodeDelta(p)
		if err == nil {
			err = blocks.Apply(d)
		}
		if err != nil {
			return fmt.Errorf("%v: %w: %w", ids[i], ErrCorrupt, err)
		}
	}
	if blocks.Seq() != head.Seq || blocks.NextNumber() > head.Next {
		return fmt.Errorf("manifest ends at %d with %d objects, head at %d with %d: %w",
			blocks.Seq(), blocks.NextNumber(), head.Seq, head.Next, ErrCorrupt)
	}
	r.mu.Lock()
	r.blocks = blocks
	r.mu.Unlock()
	r.bury(blocks.Graves())
	close(r.loaded)
	return nil
}

// objects fetches several.
func (r *Remote) objects(ctx context.Context, ids []manifest.ID) ([][]byte, error) {
	list := make([][]byte, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(tidyGets)
	for i, id := range ids {
		g.Go(func() (err error) {
			list[i], err = r.object(ctx, id)
			return err
		})
	}
	return list, g.Wait()
}
