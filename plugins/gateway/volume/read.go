package volume

import (
	"context"
	"errors"
	"fmt"
)

const (
	scratchSize = 256 << 10
	// maxLooks bounds how often one run of blocks is looked up again because its data moved
	// while it was read. Moving takes a checkpoint, so more than a few in a row mean a bug.
	maxLooks = 100
)

// errMiss ends a read that may not wait.
var errMiss = errors.New("not local")

// ReadAt fills p from off. What is not local is fetched.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off > v.o.Size-int64(len(p)) {
		return fmt.Errorf("read %d+%d: %w", off, len(p), ErrRange)
	}
	missed, err := v.read(ctx, p, off, false)
	if err != nil {
		return fmt.Errorf("read %d+%d: %w", off, len(p), err)
	}
	v.count.read(missed)
	return nil
}

// TryReadAt fills p if that needs no more than local reads, and reports whether it did.
func (v *Volume) TryReadAt(p []byte, off int64) bool {
	if off < 0 || off > v.o.Size-int64(len(p)) || !v.local(off, int64(len(p))) {
		return false
	}
	if _, err := v.read(context.Background(), p, off, true); err != nil {
		return false
	}
	v.count.read(false)
	return true
}

// local is a quick look at the index before any I/O is spent.
func (v *Volume) local(off, n int64) bool {
	for b := uint64(off) / blockSize; b <= uint64(off+n-1)/blockSize && n > 0; b++ {
		if v.index.get(b).place() == inStore {
			return false
		}
	}
	return true
}

func (v *Volume) read(ctx context.Context, p []byte, off int64, localOnly bool) (missed bool, err error) {
	if err := v.Err(); err != nil {
		return false, err
	}
	buf := v.scrap.Get().(*[]byte)
	defer v.scrap.Put(buf)
	for looks := 0; len(p) > 0; {
		block, in := uint64(off)/blockSize, off%blockSize
		e := v.index.get(block)
		n := v.run(block, e, (in+int64(len(p))+blockSize-1)/blockSize)
		dst := p[:min(int64(len(p)), n*blockSize-in)]
		ok := true
		switch {
		case e.patched():
			ok, err = v.readPatched(ctx, *buf, block, localOnly)
			copy(dst, (*buf)[in:blockSize])
		case e.place() == inZero:
			clear(dst)
		case e.place() == inStore:
			if localOnly {
				return true, errMiss
			}
			missed = true
			ok, err = v.readStore(ctx, dst, block, in, n)
		default:
			if ok, err = v.readLocal((*buf)[:n*blockSize], block, e); ok {
				copy(dst, (*buf)[in:])
			}
		}
		if err != nil {
			return missed, err
		}
		if !ok {
			if looks++; looks > maxLooks {
				return missed, fmt.Errorf("block %d moved %d times while it was read", block, looks)
			}
			continue
		}
		p, off = p[len(dst):], off+int64(len(dst))
	}
	return missed, nil
}

// run counts the blocks from block on, at most limit, that one transfer can read like the first.
func (v *Volume) run(block uint64, first entry, limit int64) int64 {
	if first.patched() {
		return 1
	}
	limit = min(limit, scratchSize/blockSize)
	if first.place() == inStore || first.place() == inCache {
		limit = min(limit, cellBlocks-int64(block%cellBlocks))
	}
	n := int64(1)
	for ; n < limit; n++ {
		want := first
		if first.place() == inLog {
			want += entry(n)
		}
		if v.index.get(block+uint64(n)) != want {
			break
		}
	}
	return n
}

// readLocal reads blocks from log or cache. It reports false when the place was given up
// meanwhile; the index knows the new one.
func (v *Volume) readLocal(p []byte, block uint64, e entry) (bool, error) {
	if e.place() == inLog {
		if err := v.log.ReadAt(p, e.pos()); err != nil {
			return false, err
		}
		return v.log.Holds(e.pos()), nil
	}
	ok, corrupt, err := v.cache.read(p, uint32(e.number()), block/cellBlocks, block%cellBlocks)
	if corrupt {
		v.count.corrupt.Add(1)
		v.o.Log.Warn("cached data does not match its checksum, fetching it again", "volume", v.o.Name, "block", block)
		for i := range uint64(len(p)) / blockSize {
			v.cache.drop(v.index, block+i, uint32(e.number()))
		}
	}
	return ok, err
}

// readStore copies n blocks of one cell, beginning in bytes into the first, from a fetch.
func (v *Volume) readStore(ctx context.Context, dst []byte, block uint64, in, n int64) (bool, error) {
	cell := block / cellBlocks
	f, err := v.fetch(ctx, cell)
	if err != nil {
		return false, err
	}
	copy(dst, f.data[int64(block%cellBlocks)*blockSize+in:])
	// A clean block of a cell that has not changed is what was fetched, wherever it lies by now.
	for i := range uint64(n) {
		if e := v.index.get(block + i); e.patched() || e.place() != inStore && e.place() != inCache {
			return false, nil
		}
	}
	return v.remote.Generation(cell) == f.generation, nil
}

// readPatched puts one block with its patches into p.
func (v *Volume) readPatched(ctx context.Context, p []byte, block uint64, localOnly bool) (bool, error) {
	e, patches := v.over.get(v.index, block)
	if len(patches) == 0 {
		return false, nil // merged meanwhile
	}
	scratch := p[blockSize:]
	p = p[:blockSize]
	ok := true
	var err error
	switch e := e.base(); e.place() {
	case inZero:
		clear(p)
	case inStore:
		if localOnly {
			return false, errMiss
		}
		var f *flight
		if f, err = v.fetch(ctx, block/cellBlocks); err == nil {
			copy(p, f.data[block%cellBlocks*blockSize:])
			ok = v.remote.Generation(block/cellBlocks) == f.generation
		}
	default:
		ok, err = v.readLocal(p, block, e)
	}
	if err != nil || !ok {
		return false, err
	}
	for _, q := range patches {
		if err := v.readBytes(p[q.off:q.off+q.n], q.pos, scratch); err != nil {
			return false, err
		}
	}
	// Patches go only when they are merged, and then all of the base's places change too.
	now, after := v.over.get(v.index, block)
	return now == e && len(after) == len(patches) && v.log.Holds(patches[0].pos), nil
}

// readBytes reads from any byte position of the log.
func (v *Volume) readBytes(p []byte, pos int64, scratch []byte) error {
	in := pos % blockSize
	n := (in + int64(len(p)) + blockSize - 1) &^ (blockSize - 1)
	if err := v.log.ReadAt(scratch[:n], pos-in); err != nil {
		return err
	}
	copy(p, scratch[in:n])
	return nil
}

// Extent is a run of bytes in one state.
type Extent struct {
	Len  int64
	Zero bool // never written or trimmed
}

// Extents describes a range from its start, with at most limit extents.
func (v *Volume) Extents(off, n int64, limit int) []Extent {
	var list []Extent
	for end := off + n; off < end; {
		zero := v.index.get(uint64(off)/blockSize) == 0
		next := min((off/blockSize+1)*blockSize, end)
		if len(list) > 0 && list[len(list)-1].Zero == zero {
			list[len(list)-1].Len += next - off
		} else if len(list) == limit {
			break
		} else {
			list = append(list, Extent{Len: next - off, Zero: zero})
		}
		off = next
	}
	return list
}
