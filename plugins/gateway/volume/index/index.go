package index

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// Units.
const (
	BlocksPerCell  = cellWords
	CellsPerChunk  = chunkWords
	BlocksPerChunk = BlocksPerCell * CellsPerChunk
)

// A word of the upper two levels is 0, a Zero entry for all below, or node and a reference.
const node = kindData

// Index of one volume.
type Index struct {
	root   atomic.Pointer[[]atomic.Uint64]
	frees  atomic.Uint64
	arena  arena
	blocks atomic.Uint64
	held   atomic.Int64
}

// New returns the index of a volume of so many blocks, all absent.
func New(blocks uint64) (*Index, error) {
	x := &Index{}
	x.arena.mapped = new(mappings)
	runtime.AddCleanup(x, (*mappings).unmap, x.arena.mapped)
	if err := x.Grow(blocks); err != nil {
		return nil, err
	}
	return x, nil
}

// Grow makes the index at least as large as a volume of so many blocks. It never becomes smaller: what is beyond the end
// of a volume that has shrunk stays until it is swept.
func (x *Index) Grow(blocks uint64) error {
	n := int(blocks+BlocksPerChunk-1) / BlocksPerChunk
	var old []atomic.Uint64
	if p := x.root.Load(); p != nil {
		old = *p
	}
	if n > len(old) {
		mem, err := x.arena.mapped.words(max(n, 1) * 8)
		if err != nil {
			return err
		}
		root := unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(&mem[0])), n)
		for i := range old {
			if w := old[i].Load(); w != 0 {
				root[i].Store(w)
			}
		}
		x.root.Store(&root)
		x.frees.Add(1) // whoever walks from the old root starts again
	}
	x.blocks.Store(max(x.blocks.Load(), blocks))
	return nil
}

// Blocks is the index's size in blocks, no less than the volume's.
func (x *Index) Blocks() uint64 { return x.blocks.Load() }

// Held is the number of blocks whose data is in the log.
func (x *Index) Held() int64 { return x.held.Load() }

// Bytes is the memory mapped for nodes and roots.
func (x *Index) Bytes() int64 { return x.arena.mapped.bytes() }

// Get returns a block's entry.
func (x *Index) Get(block uint64) Entry {
	e, _ := x.Lookup(block)
	return e
}

// Lookup returns a block's entry and for how many blocks from it on, at least one, the
// index says the same without looking at each: the rest of an absent or zero chunk or cell.
func (x *Index) Lookup(block uint64) (e Entry, span uint64) {
	for {
		frees := x.frees.Load()
		e, span = x.walk(block)
		if x.frees.Load() == frees {
			return e, span
		}
	}
}

func (x *Index) walk(block uint64) (Entry, uint64) {
	w := Entry((*x.root.Load())[block/BlocksPerChunk].Load())
	if w&kindMask != node {
		return w, BlocksPerChunk - block%BlocksPerChunk
	}
	w = Entry(x.arena.chunk(uint32(w))[block/BlocksPerCell%CellsPerChunk].Load())
	if w&kindMask != node {
		return w, BlocksPerCell - block%BlocksPerCell
	}
	return Entry(x.arena.cell(uint32(w))[block%BlocksPerCell].Load()), 1
}

// Touch notes that a block with entry e was read. The word may have changed; then nothing happens. A node
// reused in this very moment can at worst get a mark on an entry that looks the same.
func (x *Index) Touch(block uint64, e Entry) {
	if !e.IsData() {
		return
	}
	w := Entry((*x.root.Load())[block/BlocksPerChunk].Load())
	if w&kindMask != node {
		return
	}
	w = Entry(x.arena.chunk(uint32(w))[block/BlocksPerCell%CellsPerChunk].Load())
	if w&kindMask != node {
		return
	}
	x.arena.cell(uint32(w))[block%BlocksPerCell].CompareAndSwap(uint64(e), uint64(e|hot)&^uint64(ahead))
}

// Prepare takes the memory that Set, Run or Zero on these blocks can need.
func (x *Index) Prepare(first, n uint64) error {
	last := first + max(n, 1) - 1
	cells := last/BlocksPerCell - first/BlocksPerCell + 1
	chunks := last/BlocksPerChunk - first/BlocksPerChunk + 1
	return x.arena.reserve(int(cells), int(chunks))
}

// PrepareZero is Prepare for a long Zero: only the ends of the range need nodes.
func (x *Index) PrepareZero() error { return x.arena.reserve(4, 2) }

// Set replaces one entry.
func (x *Index) Set(block uint64, e Entry) { x.set(&x.cellOf(block)[block%BlocksPerCell], e) }

// Run sets the entries of consecutive blocks whose data lies at consecutive places: make builds an
// entry, Dirty for example, and sums has a CRC-32C for each block.
func (x *Index) Run(first uint64, place uint32, sums []uint32, entry func(place, sum uint32) Entry) {
	for len(sums) > 0 {
		c := x.cellOf(first)
		in := first % BlocksPerCell
		n := min(BlocksPerCell-in, uint64(len(sums)))
		for i := range n {
			x.set(&c[in+i], entry(place+uint32(i), sums[i]))
		}
		first, place, sums = first+n, place+uint32(n), sums[n:]
	}
}

func (x *Index) set(at *atomic.Uint64, e Entry) {
	was := Entry(at.Load()).IsData()
	at.Store(uint64(e))
	switch is := e.IsData(); {
	case is && !was:
		x.held.Add(1)
	case was && !is:
		x.held.Add(-1)
	}
}

// cellOf returns the node of a block's cell, which it makes if there is none.
func (x *Index) cellOf(block uint64) *cellNode {
	at := &x.chunkOf(block)[block/BlocksPerCell%CellsPerChunk]
	w := Entry(at.Load())
	if w&kindMask == node {
		return x.arena.cell(uint32(w))
	}
	ref := x.arena.alloc(cellClass)
	c := x.arena.cell(ref)
	for i := range c {
		c[i].Store(uint64(w)) // absent or zero as a whole, so each block is
	}
	at.Store(uint64(node) | uint64(ref))
	return c
}

func (x *Index) chunkOf(block uint64) *chunkNode {
	at := &(*x.root.Load())[block/BlocksPerChunk]
	w := Entry(at.Load())
	if w&kindMask == node {
		return x.arena.chunk(uint32(w))
	}
	ref := x.arena.alloc(chunkClass)
	c := x.arena.chunk(ref)
	for i := range c {
		c[i].Store(uint64(w))
	}
	at.Store(uint64(node) | uint64(ref))
	return c
}

// Fill gives n blocks the same entry, Zero or absent. Whole cells and chunks lose their nodes.
func (x *Index) Fill(first, n uint64, e Entry) {
	for end := first + n; first < end; {
		m := min(BlocksPerChunk-first%BlocksPerChunk, end-first)
		at := &(*x.root.Load())[first/BlocksPerChunk]
		switch w := Entry(at.Load()); {
		case m == BlocksPerChunk || w == e:
			at.Store(uint64(e))
			x.dropChunk(w)
		default:
			x.fillChunk(x.chunkOf(first), first, m, e)
		}
		first += m
	}
}

func (x *Index) fillChunk(c *chunkNode, first, n uint64, e Entry) {
	for end := first + n; first < end; {
		m := min(BlocksPerCell-first%BlocksPerCell, end-first)
		at := &c[first/BlocksPerCell%CellsPerChunk]
		switch w := Entry(at.Load()); {
		case m == BlocksPerCell || w == e:
			at.Store(uint64(e))
			x.dropCell(w)
		default:
			cell := x.cellOf(first)
			for i := range m {
				x.set(&cell[first%BlocksPerCell+i], e)
			}
		}
		first += m
	}
}

// dropChunk frees what an unlinked root word led to.
func (x *Index) dropChunk(w Entry) {
	if w&kindMask != node {
		return
	}
	c := x.arena.chunk(uint32(w))
	x.frees.Add(1)
	for i := range c {
		x.dropCell(Entry(c[i].Load()))
	}
	x.arena.release(uint32(w), chunkClass)
}

func (x *Index) dropCell(w Entry) {
	if w&kindMask != node {
		return
	}
	c := x.arena.cell(uint32(w))
	lost := 0
	for i := range c {
		if Entry(c[i].Load()).IsData() {
			lost++
		}
	}
	x.held.Add(int64(-lost))
	x.frees.Add(1)
	x.arena.release(uint32(w), cellClass)
}
