package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// maxPatches bounds the patches at a time, and so does the size of the log; writers of more wait for an
// upload to merge some. After a start there can be a few more: those that only the window held, behind a mark that is newer
// than the disk's.
const maxPatches = 64 << 10

// patch is a byte range of a block whose data is in the log.
type patch struct {
	pos int64 // of the bytes in the log
	off uint16
	n   uint16
	sum uint32 // CRC-32C of the bytes, 0 if it is not known
}

// overlay keeps the patches of all blocks that are Patched in the index, in the order of the log. Entry and
// list change together under the volume's lock and mu, which readers take alone.
type overlay struct {
	mu     sync.RWMutex
	blocks map[uint64][]patch
	n      int
}

// add lays p over the block; patches that it covers are forgotten. The same patch may come again when the
// log is replayed over a newer checkpoint.
func (o *overlay) add(x *index.Index, block uint64, p patch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.blocks[block]
	keep := make([]patch, 0, len(old)+1) // a new slice: readers hold the old one
	for _, q := range old {
		if q.pos > p.pos || q.pos < p.pos && (q.off < p.off || q.off+q.n > p.off+p.n) {
			keep = append(keep, q)
		}
	}
	keep = append(keep, p)
	slices.SortFunc(keep, func(a, b patch) int { return cmp.Compare(a.pos, b.pos) })
	o.blocks[block] = keep
	o.n += len(keep) - len(old)
	x.Set(block, index.Patched)
}

// get returns the block's patches if it is Patched.
func (o *overlay) get(block uint64) []patch {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.blocks[block]
}

// forget drops the patches of blocks that are about to be replaced.
func (o *overlay) forget(first, n uint64) {
	if o.n == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if n < uint64(len(o.blocks)) {
		for b := first; b < first+n; b++ {
			o.n -= len(o.blocks[b])
			delete(o.blocks, b)
		}
		return
	}
	for b, list := range o.blocks {
		if b >= first && b-first < n {
			o.n -= len(list)
			delete(o.blocks, b)
		}
	}
}

// confirm forgets patches before pos: the store has the blocks with them merged.
func (o *overlay) confirm(x *index.Index, pos int64) {
	if o.n == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for b, list := range o.blocks {
		i := 0
		for i < len(list) && list[i].pos < pos {
			i++
		}
		o.n -= i
		switch {
		case i == len(list):
			x.Set(b, 0)
			delete(o.blocks, b)
		case i > 0:
			o.blocks[b] = list[i:]
		}
	}
}

// list is all of it, for a checkpoint.
func (o *overlay) list() []blockPatch {
	o.mu.RLock()
	defer o.mu.RUnlock()
	var out []blockPatch
	for b, list := range o.blocks {
		for _, p := range list {
			out = append(out, blockPatch{b, p})
		}
	}
	return out
}

// tryPart is TryWriteAt for a part of one block whose rest is near.
func (v *Volume) tryPart(p []byte, off int64) bool {
	if len(p) == 0 || off/blockSize != (off+int64(len(p))-1)/blockSize {
		return false
	}
	s := v.scrap.Get().(*scratch)
	defer v.scrap.Put(s)
	block := uint64(off) / blockSize
	e := v.index.Get(block)
	ok := false
	switch base := s.block(); {
	case e.IsData():
		ok = v.tryData(base, block, []index.Entry{e})
	case e.IsZero():
		clear(base)
		ok = true
	}
	if !ok {
		return false
	}
	if err := v.replacePart(s, block, e, p, off%blockSize); err != nil {
		return false
	}
	v.count.writes.Add(1)
	return true
}

// replacePart appends the block in s with p laid over it, if its entry is still e.
func (v *Volume) replacePart(s *scratch, block uint64, e index.Entry, p []byte, in int64) error {
	base := s.block()
	copy(base[in:], p)
	r := record(log.Write, base, int64(block)*blockSize, s.sums.of(base))
	_, err := v.append(context.Background(), &r, func() bool { return v.index.Get(block).Same(e) })
	return err
}

// writePart writes a part of one block. What is local, or known to be zero, is merged here; over a block
// of the store the bytes are logged as they are and merged when the block is next uploaded or
// read, so that a small write never waits for the store (S12).
func (v *Volume) writePart(ctx context.Context, s *scratch, p []byte, off int64) (end int64, err error) {
	block, in := uint64(off)/blockSize, off%blockSize
	for range maxLooks {
		e := v.index.Get(block)
		still := func() bool { return v.index.Get(block).Same(e) }
		base := s.block()
		switch {
		case e.IsData():
			if ok, err := v.readData(base, block, []index.Entry{e}); err != nil {
				return 0, err
			} else if !ok {
				v.await()
				continue
			}
		case e.IsZero(), !e.IsPatched() && v.storedNothing(block):
			clear(base)
		default:
			s.sums[0] = log.Checksum(p)
			if end, err = v.putPatch(ctx, record(log.Patch, p, off, s.sums[:1]), still); !errors.Is(err, errChanged) {
				return end, err
			}
			continue
		}
		copy(base[in:], p)
		end, err = v.put(ctx, record(log.Write, base, int64(block)*blockSize, s.sums.of(base)), still)
		if !errors.Is(err, errChanged) {
			return end, err
		}
	}
	return 0, fmt.Errorf("block %d changes all the time", block)
}

// putPatch is put for a patch: it waits while there are too many of them, too. They are counted where this one is added, for
// others may have come while it waited for room.
func (v *Volume) putPatch(ctx context.Context, r log.Record, still func() bool) (end int64, err error) {
	for {
		if err := v.patchRoom(ctx); err != nil {
			return 0, err
		}
		full := false
		end, err = v.put(ctx, r, func() bool {
			full = v.patchesFull()
			return !full && still()
		})
		if !full {
			return end, err
		}
	}
}

// patchesFull reports whether there are as many patches as there may be. It needs mu.
func (v *Volume) patchesFull() bool { return v.over.n >= int(min(maxPatches, v.log.Size()/blockSize)) }

// patchRoom waits while there are too many patches.
func (v *Volume) patchRoom(ctx context.Context) error {
	for {
		changed := v.up.watch()
		v.mu.Lock()
		full := v.patchesFull()
		v.mu.Unlock()
		if !full {
			return nil
		}
		v.up.want(v.head.Load())
		poke(v.cut)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := v.Err(); err != nil {
			return err
		}
	}
}

// readPatched puts one block with its patches into p.
func (v *Volume) readPatched(ctx context.Context, p []byte, block uint64) (bool, error) {
	list := v.over.get(block)
	if len(list) == 0 {
		return false, nil // merged meanwhile
	}
	f, err := v.fetch(ctx, block/cellBlocks)
	if err != nil {
		return false, err
	}
	if f.empty && f.mask&(1<<(block%cellBlocks)) != 0 {
		return false, nil // it was patched after the fetch had begun
	}
	copy(p, f.data[block%cellBlocks*blockSize:])
	err = v.overlayOn(p, list)
	if errors.Is(err, log.ErrGone) || !slices.Equal(v.over.get(block), list) {
		return false, nil // merged by an upload, and perhaps freed
	}
	return err == nil && v.remote.Generation(block/cellBlocks) == f.generation, err
}

// overlayOn lays patches over a block. The store does not have them yet: one that does not match is an error.
func (v *Volume) overlayOn(p []byte, list []patch) error {
	for _, q := range list {
		part := p[q.off : q.off+q.n]
		if err := v.log.Read(part, q.pos); err != nil {
			return fmt.Errorf("read patch at %d: %w", q.pos, err)
		}
		if q.sum != 0 && log.Checksum(part) != q.sum {
			v.count.lost.Add(1)
			return fmt.Errorf("patch at %d of the log: %w", q.pos, ErrRotten)
		}
	}
	return nil
}

// merge turns a patched block into a whole one, now that its base has been fetched. The content does not change,
// so it may happen at any time.
func (v *Volume) merge(f *flight, block uint64, s *scratch) error {
	list := v.over.get(block)
	if len(list) == 0 || f.empty && f.mask&(1<<(block%cellBlocks)) != 0 {
		return nil
	}
	base := s.block()
	copy(base, f.data[block%cellBlocks*blockSize:])
	if err := v.overlayOn(base, list); err != nil {
		return err
	}
	r := record(log.Write, base, int64(block)*blockSize, s.sums.of(base))
	_, err := v.append(context.Background(), &r, func() bool {
		return slices.Equal(v.over.get(block), list) && v.remote.Generation(block/cellBlocks) == f.generation
	})
	return err
}
