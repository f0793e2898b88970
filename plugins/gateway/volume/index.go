package volume

import (
	"sync/atomic"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

const (
	blockSize  = log.BlockSize
	pageBlocks = 512 // one page of the index covers 2 MiB of the volume
)

// entry says where a block is: two bits of place, one that patches lie over it, and a number.
type entry uint64

type place uint8

const (
	inZero  place = iota // reads as zeroes
	inStore              // only in the object store
	inLog                // number: position in the log, in blocks
	inCache              // number: cache slot; the block's place in its cell is its place in the slot
)

const patchedBit entry = 1 << 61

func entryOf(p place, n uint64) entry { return entry(p)<<62 | entry(n) }
func logEntry(pos int64) entry        { return entryOf(inLog, uint64(pos)/blockSize) }
func slotEntry(slot uint32) entry     { return entryOf(inCache, uint64(slot)) }

func (e entry) place() place   { return place(e >> 62) }
func (e entry) patched() bool  { return e&patchedBit != 0 }
func (e entry) base() entry    { return e &^ patchedBit }
func (e entry) number() uint64 { return uint64(e & (patchedBit - 1)) }
func (e entry) pos() int64     { return int64(e.number()) * blockSize }

// index is a flat array of entries in pages. A missing page is all zeroes, so an empty volume
// costs 8 bytes for 2 MiB. Lookups take no lock.
type index struct {
	pages []atomic.Pointer[page]
}

type page [pageBlocks]atomic.Uint64

func newIndex(size int64) *index {
	return &index{pages: make([]atomic.Pointer[page], (size/blockSize+pageBlocks-1)/pageBlocks)}
}

func (x *index) get(block uint64) entry {
	if p := x.pages[block/pageBlocks].Load(); p != nil {
		return entry(p[block%pageBlocks].Load())
	}
	return 0
}

func (x *index) page(block uint64) *page {
	at := &x.pages[block/pageBlocks]
	for {
		if p := at.Load(); p != nil {
			return p
		}
		at.CompareAndSwap(nil, new(page))
	}
}

func (x *index) set(block uint64, e entry) { x.page(block)[block%pageBlocks].Store(uint64(e)) }

// swap replaces old by e and reports whether old was still there. Only the place is compared and
// replaced: whether patches lie over the block stays as it is.
func (x *index) swap(block uint64, old, e entry) bool {
	p := x.pages[block/pageBlocks].Load()
	if p == nil {
		return false
	}
	at := &p[block%pageBlocks]
	for {
		now := entry(at.Load())
		if now.base() != old.base() {
			return false
		}
		if at.CompareAndSwap(uint64(now), uint64(e.base()|now&patchedBit)) {
			return true
		}
	}
}

// mark sets or clears the patched bit.
func (x *index) mark(block uint64, patched bool) {
	at := &x.page(block)[block%pageBlocks]
	if patched {
		at.Or(uint64(patchedBit))
	} else {
		at.And(^uint64(patchedBit))
	}
}

// zero clears n entries; whole pages are let go. A swap that still holds such a page
// changes nothing that anybody will see.
func (x *index) zero(block, n uint64) {
	for end := block + n; block < end; {
		at := &x.pages[block/pageBlocks]
		in := block % pageBlocks
		m := min(pageBlocks-in, end-block)
		switch p := at.Load(); {
		case p == nil:
		case m == pageBlocks:
			at.Store(nil)
		default:
			for i := range m {
				p[in+i].Store(0)
			}
		}
		block += m
	}
}
