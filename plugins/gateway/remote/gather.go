package remote

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// gatherAtOnce bounds the memory of what is fetched together to be packed anew, in bytes.
const gatherAtOnce = 6 << 20

// target is what is to be packed anew into one frame: all frames of a cell, or one that has to move.
type target struct {
	cell     uint64
	portions []*portion
	put      func(manifest.Frame) // in their place
}

// gather packs anew what a job wants of a leaf: cells in too many frames, each into one, and frames that are to move. It ends
// when w has what one step may write: the cells of one leaf alone can be more than an object holds. The others stay in
// their frames, which the leaf goes on to name, and a later step takes them; each takes some. found is how many there are.
func (r *Remote) gather(ctx context.Context, l *manifest.Leaf, w *manifest.Writer, j *job) (found int, err error) {
	list, err := r.targets(l, j)
	if err != nil {
		return 0, err
	}
	for rest := list; len(rest) > 0 && w.Len() < maxStep; {
		some := together(rest)
		rest = rest[len(some):]
		var portions []*portion
		for i := range some {
			portions = append(portions, some[i].portions...)
		}
		if err := r.open(ctx, portions, tidyGets); err != nil {
			return 0, err
		}
		for i := range some {
			t := &some[i]
			f, err := t.pack(w)
			if err != nil {
				return 0, err
			}
			t.put(f.Frame)
			t.portions = nil
		}
	}
	return len(list), nil
}

// together returns as many targets as are fetched at once, one at least.
func together(list []target) []target {
	size := 0
	for i := range list {
		for _, p := range list[i].portions {
			size += int(p.Length) + maxGap/2 // more or less
		}
		if i > 0 && size > gatherAtOnce {
			return list[:i]
		}
	}
	return list
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
				p := t.portions[0]
				p.asIs = r.sealer == nil && p.Live == p.Blocks
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
		t.portions = append(t.portions, &portion{piece: piece{f, o}, cell: t.cell})
	}
	return nil
}

// pack puts a target that was fetched into an object.
func (t *target) pack(w *manifest.Writer) (manifest.CellFrame, error) {
	if p := t.portions[0]; p.asIs {
		f, err := w.Move(t.cell, &p.Frame, p.blocks)
		if errors.Is(err, manifest.ErrInvalid) {
			err = fmt.Errorf("%v: %w: %w", p.object.ID(), ErrCorrupt, err)
		}
		return f, err
	}
	mask, blocks := t.live()
	return w.Add(t.cell, mask, blocks)
}

// live returns what lives of a target that was fetched: its blocks, one after the other.
func (t *target) live() (mask uint16, blocks []byte) {
	if len(t.portions) > 1 {
		data, mask := assemble(t.portions)
		return mask, squeeze(data, mask)
	}
	p := t.portions[0]
	blocks = p.blocks[:0]
	for i, at := 0, 0; i < manifest.BlocksPerCell; i++ {
		if p.Blocks&(1<<i) == 0 {
			continue
		}
		if p.Live&(1<<i) != 0 {
			blocks = append(blocks, p.blocks[at:at+manifest.BlockSize]...) // in place, never ahead of what is read
		}
		at += manifest.BlockSize
	}
	return p.Live, blocks
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

// leaving is the job of moving what still lives out of objects of one kind. It goes through the leaves that the first one was
// written for, beginning behind the one where the last job ended, or that are in it.
func (r *Remote) leaving(ctx context.Context, objects []manifest.Object) (*job, error) {
	first := objects[0]
	if first.Kind == manifest.KindLeaf {
		return &job{leaves: r.blocks.LeavesIn(first.Number)}, nil
	}
	j := &job{leave: make(map[uint32]bool)}
	for i := range objects {
		j.leave[objects[i].Number] = true
	}
	cells, err := r.directory(ctx, first)
	if err != nil {
		return nil, err
	}
	for _, cell := range cells {
		j.leaves = append(j.leaves, cell/manifest.CellsPerLeaf)
	}
	slices.Sort(j.leaves)
	j.leaves = slices.Compact(j.leaves)
	next, _ := slices.BinarySearch(j.leaves, r.left+1)
	j.leaves = slices.Concat(j.leaves[next:], j.leaves[:next])
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
