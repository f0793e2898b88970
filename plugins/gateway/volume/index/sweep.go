package index

// Sweep shows visit every entry that is not absent, from chunk on, in order, and stores what it
// returns. n is how many blocks an entry stands for. It ends after about budget words and returns the
// chunk to go on with, or false when it has seen all. Nodes left without entries are freed.
//
// visit may only keep an entry, replace data by data or absent, or replace zeroes by absent.
func (x *Index) Sweep(chunk uint64, budget int, visit func(block, n uint64, e Entry) Entry) (next uint64, more bool) {
	root := *x.root.Load()
	for ; chunk < uint64(len(root)); chunk++ {
		if budget <= 0 {
			return chunk, true
		}
		budget--
		at := &root[chunk]
		w := Entry(at.Load())
		switch {
		case w == 0:
		case w&kindMask != node:
			at.Store(uint64(visit(chunk*BlocksPerChunk, BlocksPerChunk, w)))
		default:
			budget -= BlocksPerChunk
			if x.sweepChunk(x.arena.chunk(uint32(w)), chunk*BlocksPerChunk, visit) {
				at.Store(0)
				x.dropChunk(w)
			}
		}
	}
	return 0, false
}

// sweepChunk reports whether the chunk is absent as a whole now.
func (x *Index) sweepChunk(c *chunkNode, first uint64, visit func(block, n uint64, e Entry) Entry) (empty bool) {
	empty = true
	for i := range c {
		block := first + uint64(i)*BlocksPerCell
		w := Entry(c[i].Load())
		if w != 0 && w&kindMask != node {
			w = visit(block, BlocksPerCell, w)
			c[i].Store(uint64(w))
		} else if w != 0 && x.sweepCell(x.arena.cell(uint32(w)), block, visit) {
			c[i].Store(0)
			x.dropCell(w)
			w = 0
		}
		empty = empty && w == 0
	}
	return empty
}

func (x *Index) sweepCell(c *cellNode, first uint64, visit func(block, n uint64, e Entry) Entry) (empty bool) {
	empty = true
	for i := range c {
		e := Entry(c[i].Load())
		if e == 0 {
			continue
		}
		if now := visit(first+uint64(i), 1, e); now != e {
			x.set(&c[i], now)
			e = now
		}
		empty = empty && e == 0
	}
	return empty
}

// Chunk is the state of all blocks of one chunk at one moment.
type Chunk [BlocksPerChunk]Entry

// Snapshot copies a chunk's entries without a lock. When the chunk is absent or zero as a whole it returns that
// word and true, and leaves out alone. Entries of different blocks may be of different moments.
func (x *Index) Snapshot(chunk uint64, out *Chunk) (whole Entry, uniform bool) {
	for {
		frees := x.frees.Load()
		whole, uniform = x.snapshot(chunk, out)
		if x.frees.Load() == frees {
			return whole, uniform
		}
	}
}

func (x *Index) snapshot(chunk uint64, out *Chunk) (Entry, bool) {
	w := Entry((*x.root.Load())[chunk].Load())
	if w&kindMask != node {
		return w, true
	}
	c := x.arena.chunk(uint32(w))
	for i := range c {
		cell := out[i*BlocksPerCell : (i+1)*BlocksPerCell]
		w := Entry(c[i].Load())
		if w&kindMask != node {
			for j := range cell {
				cell[j] = w
			}
			continue
		}
		n := x.arena.cell(uint32(w))
		for j := range cell {
			cell[j] = Entry(n[j].Load())
		}
	}
	return 0, false
}

// Chunks is the number of chunks, the last of which may be short.
func (x *Index) Chunks() uint64 { return uint64(len(*x.root.Load())) }
