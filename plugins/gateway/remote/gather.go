package remote

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// gatherAtOnce is the number of cells or frames fetched together to be packed anew, each of which takes up to 64 KiB of memory.
const gatherAtOnce = 64

// target is what is to be packed anew into one frame: all frames of a cell, or one that has to move.
type target struct {
	cell   uint64
	pieces []piece
	put    func(manifest.Frame) // in their place
	blocks []byte
	mask   uint16 // of them
}

// gather packs anew what a job wants of a leaf: cells in too many frames, each into one, and frames that are to move. It ends
// when w has what one step may write: the cells of one leaf alone can be more than an object holds. The others stay in
// their frames, which the leaf goes on to name, and a later step takes them; each takes some.
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
		g.SetLimit(tidyGets)
		for i := range some {
			t := &some[i]
			g.Go(func() error {
				return r.read(gctx, t)
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i := range some {
			t := &some[i]
			f, err := w.Add(t.cell, t.mask, t.blocks)
			if err != nil {
				return err
			}
			t.put(f.Frame)
			t.blocks = nil
		}
	}
	return nil
}

// targets lists what a job wants of a leaf. Of a cell that need not be gathered only the frames move that have to: what
// is written at random has many small ones, and to move one would be to rewrite all.
func (r *Remote) targets(l *manifest.Leaf, j *job) ([]target, error) {
	var list []target
	for i, c := range l.Chunks {
		for k := 0; c != nil && k < len(c.Cells); k++ {
			frames := &c.Cells[k]
			cell := (l.Number*manifest.ChunksPerLeaf+uint64(i))*manifest.CellsPerChunk + uint64(k)
			if j.gather && len(*frames) > manifest.MaxFrames {
				t := target{cell: cell, put: func(f manifest.Frame) { *frames = []manifest.Frame{f} }}
				if err := r.from(&t, *frames); err != nil {
					return nil, err
				}
				list = append(list, t)
				continue
			}
			for at := range *frames {
				if !j.leave[(*frames)[at].Object] {
					continue
				}
				t := target{cell: cell, put: func(f manifest.Frame) {
					*frames = slices.Clone(*frames) // which may be the old leaf's as well, or those over it
					(*frames)[at] = f
				}}
				if err := r.from(&t, (*frames)[at:at+1]); err != nil {
					return nil, err
				}
				list = append(list, t)
			}
		}
	}
	return list, nil
}

// from notes which frames a target is made of, and where these are.
func (r *Remote) from(t *target, frames []manifest.Frame) error {
	for _, f := range frames {
		o, err := r.entry(f.Object)
		if err != nil {
			return err
		}
		t.pieces = append(t.pieces, piece{f, o})
	}
	return nil
}

// read fetches what lives of a target.
func (r *Remote) read(ctx context.Context, t *target) error {
	if len(t.pieces) > 1 {
		data, mask, err := r.fetch(ctx, t.cell, t.pieces)
		if err == nil {
			t.mask, t.blocks = mask, squeeze(data, mask)
		}
		return err
	}
	p := &t.pieces[0]
	blocks, err := r.open(ctx, t.cell, p)
	if err != nil {
		return err
	}
	t.mask, t.blocks = p.Live, blocks[:0]
	for i, at := 0, 0; i < manifest.BlocksPerCell; i++ {
		if p.Blocks&(1<<i) == 0 {
			continue
		}
		if p.Live&(1<<i) != 0 {
			t.blocks = append(t.blocks, blocks[at:at+manifest.BlockSize]...) // in place, never ahead of what is read
		}
		at += manifest.BlockSize
	}
	return nil
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

// leaveAtOnce is how many objects a step moves frames out of: to write a leaf anew costs the same for one frame as for many.
const leaveAtOnce = 16

// sparse is the job of moving what still lives out of objects that are mostly dead, of the kind given; nil when there is
// none that is worth it. It goes through the leaves of the sparsest one.
func (r *Remote) sparse(ctx context.Context, kind manifest.Kind) (*job, error) {
	list := r.blocks.Sparsest(kind, leaveAtOnce)
	if len(list) == 0 {
		return nil, nil
	}
	first := list[0]
	if kind == manifest.KindLeaf {
		return &job{leaves: r.blocks.LeavesIn(first.Number)}, nil
	}
	j := &job{leave: make(map[uint32]bool)}
	for i := range list {
		j.leave[list[i].Number] = true
	}
	cells, err := r.directory(ctx, first)
	if err != nil {
		return nil, err
	}
	slices.Sort(cells)
	for _, cell := range cells {
		leaf := cell / manifest.CellsPerLeaf
		if n := len(j.leaves); n > 0 && j.leaves[n-1] == leaf {
			continue // known already to hold some of it
		}
		pieces, _, err := r.look(ctx, cell)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(pieces, func(p piece) bool { return p.Object == first.Number }) {
			j.leaves = append(j.leaves, leaf)
		}
	}
	if len(j.leaves) == 0 {
		return nil, nil
	}
	return j, nil
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
