package remote

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

const (
	// maxGap is how many bytes that nobody wants are fetched to save a get: a request costs a service and us about as
	// much as these.
	maxGap = 32 << 10
	// maxRun bounds what is fetched at once, in bytes, and with it the memory of a get.
	maxRun = 1 << 20
)

// portion is a piece that is fetched for a cell, and its blocks once it was; or its bytes, unchecked, if it is to be moved
// as it is.
type portion struct {
	piece
	cell   uint64
	asIs   bool
	blocks []byte
}

// end is where it ends in its object, in bytes.
func (p *portion) end() int64 { return int64(p.Offset) + int64(p.Length) }

// runs groups portions by the gets that fetch them: what lies near each other in an object comes with one. An upload lays
// its frames in the order of the cells, so those of a leaf are neighbours.
func runs(list []*portion) [][]*portion {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b *portion) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Offset, b.Offset))
	})
	var out [][]*portion
	from := 0
	for i, p := range sorted {
		if i > 0 && !joins(p, sorted[from], sorted[i-1].end()) {
			out = append(out, sorted[from:i])
			from = i
		}
	}
	if len(sorted) > 0 {
		out = append(out, sorted[from:])
	}
	return out
}

// joins says whether p comes with the get that begins with first and ends at end so far. Frames that overlap, as no upload
// makes them, come one by one, and what is wrong with them is found then.
func joins(p, first *portion, end int64) bool {
	at := int64(p.Offset)
	return p.Object == first.Object && end <= at && at <= end+maxGap && p.end() <= int64(first.Offset)+maxRun
}

// open fetches portions, with so many gets at once.
func (r *Remote) open(ctx context.Context, list []*portion, atOnce int) error {
	all := runs(list)
	if len(all) == 1 {
		return r.openRun(ctx, all[0])
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, run := range all {
		g.Go(func() error { return r.openRun(ctx, run) })
	}
	return g.Wait()
}

func (r *Remote) openRun(ctx context.Context, run []*portion) error {
	object := &run[0].object
	start, n := int64(run[0].Offset), run[len(run)-1].end()-int64(run[0].Offset)
	data, err := r.get(ctx, r.key(object.ID()), start, n)
	if err != nil {
		return err
	}
	if int64(len(data)) != n {
		return fmt.Errorf("%v: %w: %d bytes at %d, want %d", object.ID(), ErrCorrupt, len(data), start, n)
	}
	for _, p := range run {
		at, end := int64(p.Offset)-start, p.end()-start
		if p.blocks = data[at:end:end]; p.asIs {
			continue
		}
		if p.blocks, err = p.Open(p.blocks, r.sealer, object, p.cell); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return nil
}

// assemble puts the portions of a cell together and tells which blocks these are. data has zeroes for the others.
func assemble(list []*portion) (data []byte, mask uint16) {
	if len(list) == 1 && list[0].IsCell() {
		return list[0].blocks, list[0].Live
	}
	data = make([]byte, manifest.CellSize)
	for _, p := range list {
		p.Copy(data, p.blocks)
		mask |= p.Live
	}
	return data, mask
}
