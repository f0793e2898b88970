package upload

import (
	"slices"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

const blockSize = manifest.BlockSize

// smallZero is the number of blocks up to which zeroes are kept block by block.
const smallZero = 16

// Batch collects groups. Its memory is flat: blocks and byte ranges lie one after the other in two buffers, and
// entries point into them, so that a batch of thousands of blocks costs a handful of allocations, and the
// next one none.
type Batch struct {
	home    *Pool // nil if nobody wants its memory back
	last    uint64
	bytes   int64
	records int
	index   map[uint64]int32 // block to its entry
	entries []entry
	blocks  []byte
	patches []patch
	ranges  []byte // of the patches
	zeros   []manifest.Range
}

// entry is what the batch knows of a block.
type entry struct {
	block   uint64
	at      int32 // of its content in blocks, counted in blocks; or one of the below
	first   int32 // of its patches, none: noPatch
	last    int32
	patched bool
}

const (
	unknown = -1 - iota // only byte ranges are known
	zeroed              // all zeroes
	dropped             // a range of zeroes has come later
)

// patch is a byte range over a block whose content the batch does not know.
type patch struct {
	off, len int32
	at       int // in ranges
	next     int32
}

const noPatch = -1

// New returns an empty batch.
func New() *Batch { return &Batch{index: make(map[uint64]int32)} }

// Free gives the batch's memory back to the pool that it is from. Nothing of the batch may be used afterwards.
func (b *Batch) Free() {
	if b.home == nil {
		return
	}
	clear(b.index)
	*b = Batch{home: b.home, index: b.index, entries: b.entries[:0], blocks: b.blocks[:0], patches: b.patches[:0], ranges: b.ranges[:0]}
	b.home.put(b)
}

// Bytes is the length of the groups added, as they are in the log.
func (b *Batch) Bytes() int64 { return b.bytes }

// Records is the number of records added.
func (b *Batch) Records() int { return b.records }

// Last is the sequence number of the last group added, 0 for none.
func (b *Batch) Last() uint64 { return b.last }

// Add takes the group that follows. Its data is copied. Records that hold nothing new, as what was fetched from
// the store, are passed over.
func (b *Batch) Add(g *log.Group) {
	b.last = g.Seq
	b.bytes += g.Len
	b.records += len(g.Records)
	for i := range g.Records {
		r := &g.Records[i]
		first := uint64(r.Off) / blockSize
		switch r.Kind {
		case log.Write:
			b.write(first, r.Data)
		case log.Patch:
			b.patch(first, int32(r.Off%blockSize), r.Data)
		case log.Zero:
			b.zero(manifest.Range{First: first, Count: uint64(r.Len) / blockSize})
		}
	}
}

// entry returns the one of a block, made if need be, without content or patches. The pointer holds until the
// next call.
func (b *Batch) entry(block uint64) (e *entry, fresh bool) {
	if i, ok := b.index[block]; ok {
		return &b.entries[i], false
	}
	b.index[block] = int32(len(b.entries))
	b.entries = append(b.entries, entry{block: block, at: unknown, first: noPatch, last: noPatch})
	return &b.entries[len(b.entries)-1], true
}

// place returns the content of an entry to write into.
func (b *Batch) place(e *entry) []byte {
	if e.at < 0 {
		e.at = int32(len(b.blocks) / blockSize)
		b.blocks = slices.Grow(b.blocks, blockSize)[:len(b.blocks)+blockSize]
	}
	return b.content(e)
}

func (b *Batch) content(e *entry) []byte {
	return b.blocks[int(e.at)*blockSize : (int(e.at)+1)*blockSize]
}

func (b *Batch) write(first uint64, data []byte) {
	for ; len(data) >= blockSize; first++ {
		e, _ := b.entry(first)
		e.first, e.last = noPatch, noPatch
		copy(b.place(e), data)
		data = data[blockSize:]
	}
}

func (b *Batch) patch(block uint64, off int32, data []byte) {
	e, fresh := b.entry(block)
	if fresh && b.inRange(block) || e.at == dropped {
		e.at = zeroed
	}
	e.patched = true
	if e.at == zeroed {
		clear(b.place(e))
	}
	if e.at >= 0 {
		copy(b.content(e)[off:], data)
		return
	}
	next := int32(len(b.patches))
	if e.last == noPatch {
		e.first = next
	} else {
		b.patches[e.last].next = next
	}
	e.last = next
	b.patches = append(b.patches, patch{off: off, len: int32(len(data)), at: len(b.ranges), next: noPatch})
	b.ranges = append(b.ranges, data...)
}

// inRange reports whether a block is in one of the ranges of zeroes.
func (b *Batch) inRange(block uint64) bool {
	return slices.ContainsFunc(b.zeros, func(z manifest.Range) bool { return block >= z.First && block-z.First < z.Count })
}

func (b *Batch) zero(z manifest.Range) {
	if z.Count <= smallZero {
		for i := range z.Count {
			e, _ := b.entry(z.First + i)
			b.forget(e, zeroed)
		}
		return
	}
	if z.Count < uint64(len(b.entries)) {
		for i := range z.Count {
			if at, ok := b.index[z.First+i]; ok {
				b.forget(&b.entries[at], dropped)
			}
		}
	} else {
		for i := range b.entries {
			if e := &b.entries[i]; e.block >= z.First && e.block-z.First < z.Count {
				b.forget(e, dropped)
			}
		}
	}
	b.zeros = append(b.zeros, z)
}

func (b *Batch) forget(e *entry, at int32) {
	*e = entry{block: e.block, at: at, first: noPatch, last: noPatch}
}

// Unresolved lists the blocks of which only byte ranges are known, in order.
func (b *Batch) Unresolved() []uint64 {
	var list []uint64
	for i := range b.entries {
		if b.entries[i].at == unknown {
			list = append(list, b.entries[i].block)
		}
	}
	slices.Sort(list)
	return list
}

// Resolve gives an unresolved block the content that it had before the batch.
func (b *Batch) Resolve(block uint64, base []byte) {
	e, _ := b.entry(block)
	p := b.place(e)
	copy(p, base)
	for i := e.first; i != noPatch; i = b.patches[i].next {
		t := &b.patches[i]
		copy(p[t.off:], b.ranges[t.at:t.at+int(t.len)])
	}
	e.first, e.last = noPatch, noPatch
}

// Patched calls fn with every block that byte ranges went into and its content at the end of the batch.
func (b *Batch) Patched(fn func(block uint64, data []byte)) {
	for i := range b.entries {
		if e := &b.entries[i]; e.patched && e.at >= 0 {
			fn(e.block, b.content(e))
		}
	}
}
