package remote

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// gatherAtOnce is the number of cells fetched together to be packed anew, each of which takes 64 KiB of memory.
const gatherAtOnce = 64

// target is a cell to be packed anew.
type target struct {
	cell   uint64
	frames *[]manifest.Frame
	pieces []piece
	data   []byte
	mask   uint16
}

// gather packs cells of a leaf anew: those in too many frames, and those that are to move. It ends when w has what one step
// may write: the cells of one leaf alone can be more than an object holds. The others stay in their
// frames, which the leaf goes on to name, and a later step takes them; each takes some.
func (r *Remote) gather(ctx context.Context, l *manifest.Leaf, w *manifest.Writer, j *job) error {
	list, err := r.targets(l, j)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(list, gatherAtOnce) {
		if w.Len() >= maxStep {
			break
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(maxGets)
		for i := range some {
			t := &some[i]
			g.Go(func() (err error) {
				t.data = make([]byte, manifest.CellSize)
				t.mask, err = r.fetch(gctx, t.cell, t.pieces, t.data)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i := range some {
			t := &some[i]
			f, err := w.Add(t.cell, t.mask, squeeze(t.data, t.mask))
			if err != nil {
				return err
			}
			*t.frames = []manifest.Frame{f.Frame}
			t.data = nil
		}
	}
	return nil
}

func (r *Remote) targets(l *manifest.Leaf, j *job) ([]target, error) {
	var list []target
	for i, c := range l.Chunks {
		for k := 0; c != nil && k < len(c.Cells); k++ {
			frames := c.Cells[k]
			moves := slices.ContainsFunc(frames, func(f manifest.Frame) bool { return j.leave[f.Object] })
			if !moves && (!j.gather || len(frames) <= manifest.MaxFrames) {
				continue
			}
			chunk := l.Number*manifest.ChunksPerLeaf + uint64(i)
			t := target{cell: chunk*manifest.CellsPerChunk + uint64(k), frames: &c.Cells[k]}
			for _, f := range frames {
				o, err := r.entry(f.Object)
				if err != nil {
					return nil, err
				}
				t.pieces = append(t.pieces, piece{f, o})
			}
			list = append(list, t)
		}
	}
	return list, nil
}

// squeeze moves the blocks of mask together, in place.
func squeeze(cell []byte, mask uint16) []byte {
	n := 0
	for i := range manifest.BlocksPerCell {
		if mask&(1<<i) != 0 {
			copy(cell[n*manifest.BlockSize:], cell[i*manifest.BlockSize:(i+1)*manifest.BlockSize])
			n++
		}
	}
	return cell[:bits.OnesCount16(mask)*manifest.BlockSize]
}

// sparse is the job of moving what still lives out of an object that is mostly dead, of the kind given; nil when
// there is none that is worth it.
func (r *Remote) sparse(ctx context.Context, kind manifest.Kind) (*job, error) {
	o := r.blocks.Sparsest(kind)
	if o == nil {
		return nil, nil
	}
	if kind == manifest.KindLeaf {
		return &job{leaves: r.blocks.LeavesIn(o.Number)}, nil
	}
	number := o.Number
	cells, err := r.directory(ctx, *o)
	if err != nil {
		return nil, err
	}
	var leaves []uint64
	for _, cell := range cells {
		list, _, err := r.look(ctx, cell)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(p piece) bool { return p.Object == number }) {
			leaves = append(leaves, cell/manifest.CellsPerLeaf)
		}
	}
	if len(leaves) == 0 {
		return nil, nil
	}
	slices.Sort(leaves)
	return &job{leaves: slices.Compact(leaves), leave: map[uint32]bool{number: true}}, nil
}

// directory fetches the list of the cells in a data object.
func (r *Remote) directory(ctx context.Context, o manifest.Object) ([]uint64, error) {
	for n := min(int(o.Size), manifest.DirectorySize(4096)); ; {
		p, err := r.get(ctx, r.key(o.ID()), int64(o.Size)-int64(n), int64(n))
		if err != nil {
			return nil, err
		}
		cells, need, err := manifest.ReadDirectory(p)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%v: %w: %w", o.ID(), ErrCorrupt, err)
		case need == 0:
			return cells, nil
		case need <= n || need > int(o.Size):
			return nil, fmt.Errorf("%v: %w: directory of %d bytes", o.ID(), ErrCorrupt, need)
		}
		n = need
	}
}
