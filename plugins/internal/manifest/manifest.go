package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Units, in bytes and blocks.
const (
	BlockSize     = 4096
	CellSize      = 64 << 10
	ChunkSize     = 4 << 20
	BlocksPerCell = CellSize / BlockSize
	CellsPerChunk = ChunkSize / CellSize
)

var (
	// ErrInvalid means that bytes are not what this package wrote.
	ErrInvalid = errors.New("invalid")
	// ErrTooNew means that they come from a version with features this one does not know.
	ErrTooNew = errors.New("written by a newer version")
)

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// Sum hashes p.
func Sum(p []byte) Hash { return sha256.Sum256(p) }

// Key names an immutable object: its kind ("data", "delta", "full"), where it belongs in the
// history, and what it holds. prefix ends in a slash or is empty.
func Key(prefix, kind string, epoch, seq uint64, content Hash) string {
	return fmt.Sprintf("%s%s/%08x/%016x-%s", prefix, kind, epoch, seq, hex.EncodeToString(content[:16]))
}

// Object is an object that frames lie in. Frames of one object share one Object.
type Object struct{ Key string }

// Frame is some blocks of one cell inside an object.
type Frame struct {
	Object *Object
	Offset uint32 // in bytes
	Length uint32
	Blocks uint16 // bit i: block i of the cell is in the frame
	Live   uint16 // subset of Blocks that nothing newer replaces
	Hash   Hash   // of the Length bytes
}

// Range is a run of blocks.
type Range struct{ First, Count uint64 }

// Delta is what one batch changes: first Zeros, then Frames in order.
type Delta struct {
	Epoch  uint64
	After  uint64 // sequence number that the manifest before it covers
	Seq    uint64 // sequence number that it covers
	Zeros  []Range
	Frames []CellFrame
}

// CellFrame is a frame and the cell it belongs to.
type CellFrame struct {
	Cell uint64
	Frame
}

type cell struct {
	generation uint64  // sequence number of the last change
	frames     []Frame // oldest first, each with a live block
}

type chunk struct {
	owner uint32
	cells [CellsPerChunk]cell
}

// Map says where every block of a volume is. Blocks it does not know are zero.
type Map struct {
	blocks uint64
	seq    uint64
	chunks map[uint64]*chunk
}

// NewMap returns the map of an empty volume of size bytes, a multiple of BlockSize.
func NewMap(size int64) *Map {
	return &Map{blocks: uint64(size) / BlockSize, chunks: make(map[uint64]*chunk)}
}

// Seq is the sequence number that the map covers.
func (m *Map) Seq() uint64 { return m.seq }

func (m *Map) cell(n uint64) *cell {
	if c := m.chunks[n/CellsPerChunk]; c != nil {
		return &c.cells[n%CellsPerChunk]
	}
	return nil
}

// Lookup returns a cell's frames, oldest first, and its generation, which changes
// with them. The frames must not be changed; later changes of the map do not show in them.
func (m *Map) Lookup(n uint64) (frames []Frame, generation uint64) {
	if c := m.cell(n); c != nil {
		return c.frames, c.generation
	}
	return nil, 0
}

// Mask tells which blocks of a cell the store holds.
func (m *Map) Mask(n uint64) uint16 {
	var mask uint16
	if c := m.cell(n); c != nil {
		for i := range c.frames {
			mask |= c.frames[i].Live
		}
	}
	return mask
}

// Apply brings the map from d.After to d.Seq. A delta that does not follow is refused whole.
func (m *Map) Apply(d *Delta) error {
	if d.After != m.seq || d.Seq < d.After {
		return fmt.Errorf("apply delta %d after %d to manifest at %d: %w", d.Seq, d.After, m.seq, ErrInvalid)
	}
	for _, z := range d.Zeros {
		if z.First > m.blocks || z.Count > m.blocks-z.First {
			return fmt.Errorf("apply delta %d: zeroes outside the volume: %w", d.Seq, ErrInvalid)
		}
	}
	for i := range d.Frames {
		if f := &d.Frames[i]; !m.contains(f.Cell, f.Blocks) {
			return fmt.Errorf("apply delta %d: cell %d outside the volume: %w", d.Seq, f.Cell, ErrInvalid)
		}
	}
	for _, z := range d.Zeros {
		m.zero(z, d.Seq)
	}
	for _, f := range d.Frames {
		no := f.Cell / CellsPerChunk
		c := m.chunks[no]
		if c == nil {
			c = new(chunk)
			m.chunks[no] = c
		}
		f.Live = f.Blocks
		c.cells[f.Cell%CellsPerChunk].replace(f.Blocks, d.Seq, &f.Frame)
	}
	m.seq = d.Seq
	return nil
}

func (m *Map) contains(cell uint64, mask uint16) bool {
	const maxCell = 1 << 48 // the product below cannot overflow
	if cell > maxCell || mask == 0 {
		return false
	}
	last := 15
	for mask&(1<<last) == 0 {
		last--
	}
	return cell*BlocksPerCell+uint64(last) < m.blocks
}

// zero forgets the blocks of z, skipping what the map does not know anyway.
func (m *Map) zero(z Range, seq uint64) {
	if z.Count == 0 {
		return
	}
	first, last := z.First/BlocksPerCell, (z.First+z.Count-1)/BlocksPerCell
	inCell := func(n uint64) {
		var mask uint16
		for i := range uint64(BlocksPerCell) {
			if b := n*BlocksPerCell + i; b >= z.First && b < z.First+z.Count {
				mask |= 1 << i
			}
		}
		if c := m.cell(n); c != nil {
			c.replace(mask, seq, nil)
		}
	}
	if last-first < uint64(len(m.chunks)) {
		for n := first; n <= last; n++ {
			inCell(n)
		}
		return
	}
	for no := range m.chunks {
		for n := max(first, no*CellsPerChunk); n <= min(last, no*CellsPerChunk+CellsPerChunk-1); n++ {
			inCell(n)
		}
	}
}

// replace takes the blocks of mask from the frames there are and appends f. It builds
// a new slice, because Lookup has handed out the old one.
func (c *cell) replace(mask uint16, seq uint64, f *Frame) {
	var next []Frame
	for _, old := range c.frames {
		if old.Live &^= mask; old.Live != 0 {
			next = append(next, old)
		}
	}
	if f != nil {
		next = append(next, *f)
	}
	c.frames, c.generation = next, seq
}
