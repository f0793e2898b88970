package volume

import (
	"sync"
)

// patch is a byte range of a block whose data is in the log.
type patch struct {
	pos int64 // byte position in the log
	off uint16
	n   uint16
}

// overlay keeps the patches of all blocks that have the patched bit, oldest first. The bit and
// the list change together under mu.
type overlay struct {
	mu     sync.RWMutex
	blocks map[uint64][]patch
}

// add lays p over the block; patches that it covers are forgotten.
func (o *overlay) add(x *index, block uint64, p patch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var keep []patch // a new slice: readers hold the old one
	for _, q := range o.blocks[block] {
		if q.off < p.off || q.off+q.n > p.off+p.n {
			keep = append(keep, q)
		}
	}
	o.blocks[block] = append(keep, p)
	x.mark(block, true)
}

// get returns the block's entry and patches as they belong together.
func (o *overlay) get(x *index, block uint64) (entry, []patch) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return x.get(block), o.blocks[block]
}

// replace gives the block a new place and forgets its patches.
func (o *overlay) replace(x *index, block uint64, e entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	x.set(block, e)
	delete(o.blocks, block)
}

// zero clears a range and forgets its patches.
func (o *overlay) zero(x *index, first, n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	x.zero(first, n)
	for block := range o.blocks {
		if block >= first && block-first < n {
			delete(o.blocks, block)
		}
	}
}

// confirm forgets patches whose data lies before pos, because the store has the blocks with
// them merged; the blocks are in the store from now on.
func (o *overlay) confirm(x *index, pos int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for block, list := range o.blocks {
		var keep []patch
		for _, p := range list {
			if p.pos >= pos {
				keep = append(keep, p)
			}
		}
		if len(keep) == len(list) {
			continue
		}
		// A base newer than pos would have taken the patches before it with it.
		for !x.swap(block, x.get(block), entryOf(inStore, 0)) {
		}
		if len(keep) == 0 {
			delete(o.blocks, block)
			x.mark(block, false)
		} else {
			o.blocks[block] = keep
		}
	}
}
