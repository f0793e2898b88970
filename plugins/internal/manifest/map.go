package manifest

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

// MaxFrames is the most frames a cell lies in after compaction: with its leaf, a miss is at most 4 gets.
const MaxFrames = 3

// Map says where every block of a volume is. Blocks it does not know are zero.
//
// Below is what the root says: references to leaves, and the table of objects. Above lies what later
// deltas changed, cell by cell. Compaction folds the upper part into new leaves.
type Map struct {
	size int64
	seq  uint64
	// change counts what alters the content of cells. It is not kept: a sequence number would not do,
	// since a resize has none of its own.
	change uint64
	leaves []leafState
	over   map[uint64]*overlay
	frames int // in over
	table  table
	holds  atomic.Pointer[bitmap]

	root       ID
	leafParts  map[uint32]ID
	tableParts map[uint32]ID
	dirty      map[uint32]bool // parts of leaves that differ from what leafParts names
	graves     []Grave
}

type leafState struct {
	ref LeafRef
	// change is the number of the last change that over no longer knows.
	change uint64
}

// overlay is what deltas have changed of a cell.
type overlay struct {
	change uint64
	zeros  uint16 // blocks that are zero whatever the leaf says
	frames []Frame
}

// hidden are the blocks of which the leaf's word does not count.
func (o *overlay) hidden() uint16 {
	mask := o.zeros
	for i := range o.frames {
		mask |= o.frames[i].Live
	}
	return mask
}

// bitmap has a bit for every chunk.
type bitmap []atomic.Uint64

func newBitmap(chunks uint64) *bitmap {
	b := make(bitmap, (chunks+63)/64)
	return &b
}

// NewMap returns the map of an empty volume of size bytes, a multiple of BlockSize.
func NewMap(size int64) *Map {
	m := &Map{
		size: size, over: make(map[uint64]*overlay), leaves: make([]leafState, (size+LeafSize-1)/LeafSize),
		leafParts: make(map[uint32]ID), tableParts: make(map[uint32]ID), dirty: make(map[uint32]bool),
	}
	m.holds.Store(newBitmap(uint64(size+ChunkSize-1) / ChunkSize))
	return m
}

// Seq is the sequence number that the map covers.
func (m *Map) Seq() uint64 { return m.seq }

// Size of the volume in bytes.
func (m *Map) Size() int64 { return m.size }

func (m *Map) blocks() uint64 { return uint64(m.size) / BlockSize }

// MayHold reports whether the store holds anything of a chunk; when not, all of it is zero. It may be called at
// any time, also while the map changes.
func (m *Map) MayHold(chunk uint64) bool {
	b := *m.holds.Load()
	return chunk/64 < uint64(len(b)) && b[chunk/64].Load()&(1<<(chunk%64)) != 0
}

func (m *Map) setHold(chunk uint64, on bool) {
	w, bit := &(*m.holds.Load())[chunk/64], uint64(1)<<(chunk%64)
	if on {
		w.Or(bit)
	} else {
		w.And(^bit)
	}
}

// Place is what a map itself knows of a cell. When Leaf is not nil the rest is in that leaf, of whose frames
// the blocks of Hidden do not count.
type Place struct {
	Generation uint64
	Frames     []Frame // oldest first, newer than those in the leaf; not to be changed
	Hidden     uint16
	Leaf       *LeafRef
}

// Lookup finds a cell. Its Generation changes when its content does, and sometimes without.
func (m *Map) Lookup(cell uint64) Place {
	no := cell / CellsPerLeaf
	if no >= uint64(len(m.leaves)) {
		return Place{}
	}
	l := &m.leaves[no]
	p := Place{Generation: l.change}
	if o := m.over[cell]; o != nil {
		p.Generation, p.Frames, p.Hidden = o.change, o.frames, o.hidden()
	}
	if l.ref.Mask&(1<<(cell/CellsPerChunk%ChunksPerLeaf)) != 0 && p.Hidden != 1<<BlocksPerCell-1 {
		ref := l.ref
		p.Leaf = &ref
	}
	return p
}

// Combine puts what the leaf says of a cell under what the map knows.
func (p *Place) Combine(leaf []Frame) []Frame {
	if p.Leaf == nil || len(leaf) == 0 {
		return p.Frames
	}
	list := make([]Frame, 0, len(leaf)+len(p.Frames))
	for _, f := range leaf {
		if f.Live &^= p.Hidden; f.Live != 0 {
			list = append(list, f)
		}
	}
	return append(list, p.Frames...)
}

// Object returns an entry of the table of objects, nil when there is none.
func (m *Map) Object(number uint32) *Object { return m.table.find(number) }

// Apply brings the map from d.After to d.Seq. A delta that does not follow is refused whole.
func (m *Map) Apply(d *Delta) error {
	if err := m.Check(d); err != nil {
		return err
	}
	for i := range d.Objects {
		o := d.Objects[i]
		o.Live = 0
		m.table.add(o)
	}
	m.change++
	for _, z := range d.Zeros {
		m.zero(z)
	}
	for i := range d.Frames {
		f := &d.Frames[i]
		m.put(f.Cell, f.Frame)
	}
	m.seq = d.Seq
	return nil
}

// Check reports why Apply would refuse a delta.
func (m *Map) Check(d *Delta) error {
	if err := m.check(d); err != nil {
		return fmt.Errorf("apply delta %d: %w", d.Seq, err)
	}
	return nil
}

func (m *Map) check(d *Delta) error {
	if d.After != m.seq || d.Seq < d.After {
		return fmt.Errorf("it follows %d, the manifest is at %d: %w", d.After, m.seq, ErrInvalid)
	}
	fresh := make(map[uint32]uint64, len(d.Objects)) // to their sizes
	for i := range d.Objects {
		o := &d.Objects[i]
		if m.table.find(o.Number) != nil || o.Size == 0 || fresh[o.Number] != 0 {
			return fmt.Errorf("object %d is there already: %w", o.Number, ErrInvalid)
		}
		fresh[o.Number] = uint64(o.Size)
	}
	for _, z := range d.Zeros {
		if z.First > m.blocks() || z.Count > m.blocks()-z.First {
			return fmt.Errorf("zeroes outside the volume: %w", ErrInvalid)
		}
	}
	for i := range d.Frames {
		f := &d.Frames[i]
		if !m.contains(f.Cell, f.Blocks) {
			return fmt.Errorf("cell %d outside the volume: %w", f.Cell, ErrInvalid)
		}
		size := fresh[f.Object]
		if o := m.table.find(f.Object); o != nil {
			size = uint64(o.Size)
		}
		if uint64(f.Offset)+uint64(f.Length) > size || f.Live == 0 {
			return fmt.Errorf("frame at %d+%d of object %d with %d bytes: %w", f.Offset, f.Length, f.Object, size, ErrInvalid)
		}
	}
	return nil
}

func (m *Map) contains(cell uint64, mask uint16) bool {
	return mask != 0 && cell < MaxSize/CellSize && cell*BlocksPerCell+uint64(bits.Len16(mask)-1) < m.blocks()
}

// put lays a frame over a cell.
func (m *Map) put(cell uint64, f Frame) {
	o := m.cover(cell, f.Live, 1)
	o.zeros &^= f.Live
	o.frames = append(o.frames, f)
	m.frames++
	m.table.use(f.Object, int64(f.Length))
	m.setHold(cell/CellsPerChunk, true)
}

// cover takes the blocks of mask from the frames over a cell and hides them in the leaf. Slices that Lookup has
// handed out stay as they are: the frames are in memory of their own afterwards, with room for so many more.
func (m *Map) cover(cell uint64, mask uint16, room int) *overlay {
	o := m.over[cell]
	if o == nil {
		o = new(overlay)
		m.over[cell] = o
	}
	o.change = m.change
	o.zeros |= mask
	left := 0
	for i := range o.frames {
		if o.frames[i].Live&^mask != 0 {
			left++
		}
	}
	next := make([]Frame, 0, left+room)
	for _, f := range o.frames {
		if f.Live &^= mask; f.Live != 0 {
			next = append(next, f)
		} else {
			m.drop(&f)
		}
	}
	o.frames = next
	return o
}

// drop forgets a frame that lay over a cell.
func (m *Map) drop(f *Frame) {
	m.frames--
	m.table.use(f.Object, -int64(f.Length))
}

// zero forgets the blocks of z. Whole chunks cost the same whether they hold much or little.
func (m *Map) zero(z Range) {
	const blocksPerChunk = CellsPerChunk * BlocksPerCell
	for first, end := z.First, z.First+z.Count; first < end; {
		chunk := first / blocksPerChunk
		next := min(end, (chunk+1)*blocksPerChunk)
		switch {
		case !m.MayHold(chunk):
		case next-first == blocksPerChunk || first%blocksPerChunk == 0 && next == m.blocks():
			m.clear(chunk)
		default:
			m.zeroCells(first, next)
		}
		first = next
	}
}

func (m *Map) zeroCells(first, end uint64) {
	for first < end {
		cell := first / BlocksPerCell
		next := min(end, (cell+1)*BlocksPerCell)
		mask := uint16((1<<(next-first) - 1) << (first % BlocksPerCell))
		m.cover(cell, mask, 0)
		first = next
	}
}

// clear empties a chunk.
func (m *Map) clear(chunk uint64) {
	no := chunk / ChunksPerLeaf
	l := &m.leaves[no]
	for cell := chunk * CellsPerChunk; cell < (chunk+1)*CellsPerChunk; cell++ {
		if o := m.over[cell]; o != nil {
			for i := range o.frames {
				m.drop(&o.frames[i])
			}
			delete(m.over, cell)
		}
	}
	l.change = m.change
	if bit := uint16(1) << (chunk % ChunksPerLeaf); l.ref.Mask&bit != 0 {
		l.ref.Mask &^= bit
		m.dirty[uint32(no/leavesPerPart)] = true
	}
	m.setHold(chunk, false)
}

// Zero forgets what lies in a range outside any delta; its generations change.
func (m *Map) Zero(z Range) {
	m.change++
	m.zero(z)
}

// Resize changes the size of the volume. What lies beyond a smaller one must have been zeroed and folded.
func (m *Map) Resize(size int64) {
	old := *m.holds.Load()
	holds := newBitmap(uint64(size+ChunkSize-1) / ChunkSize)
	for i := range min(len(old), len(*holds)) {
		(*holds)[i].Store(old[i].Load())
	}
	m.holds.Store(holds)
	m.size = size
	m.grow(uint64(size+LeafSize-1) / LeafSize)
}

// grow makes room for n leaves. There may be more than the size asks for: those of a larger volume that
// wait to be folded away.
func (m *Map) grow(n uint64) {
	if n > uint64(len(m.leaves)) {
		leaves := make([]leafState, n)
		copy(leaves, m.leaves)
		m.leaves = leaves
	}
}
