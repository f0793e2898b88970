package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

const leafMagic = "RLEF"

// Leaf says where the blocks of 64 MiB of a volume are. Chunks that hold nothing are nil.
type Leaf struct {
	Number uint64
	Chunks [ChunksPerLeaf]*Chunk
}

// Chunk is the manifest entry of 4 MiB. Its owner is an account that the provider has assigned; a
// gateway only compares it (invariant S14).
type Chunk struct {
	Owner uint32
	Cells [CellsPerChunk][]Frame // oldest first, each with a live block
}

// Empty reports whether the chunk holds nothing.
func (c *Chunk) Empty() bool {
	for i := range c.Cells {
		if len(c.Cells[i]) > 0 {
			return false
		}
	}
	return true
}

func (c *Chunk) frames() (n int) {
	for i := range c.Cells {
		n += len(c.Cells[i])
	}
	return n
}

// Root is the Merkle root over the chunk's cells (the tree of RFC 6962 with 64 leaves): a cell's place and
// content can be proved with six hashes, without the rest of the manifest.
func (c *Chunk) Root() Hash {
	var nodes [CellsPerChunk]Hash
	var buf []byte
	for i := range c.Cells {
		buf = append(buf[:0], 0) // a leaf of the tree, which no inner node can be taken for
		for j := range c.Cells[i] {
			f := &c.Cells[i][j]
			buf = binary.LittleEndian.AppendUint16(buf, f.Blocks)
			buf = binary.LittleEndian.AppendUint16(buf, f.Live)
			buf = append(buf, f.Hash[:]...)
		}
		nodes[i] = Sum(buf)
	}
	var inner [1 + 2*sha256.Size]byte
	inner[0] = 1
	for n := CellsPerChunk; n > 1; n /= 2 {
		for i := range n / 2 {
			copy(inner[1:], nodes[2*i][:])
			copy(inner[1+sha256.Size:], nodes[2*i+1][:])
			nodes[i] = Sum(inner[:])
		}
	}
	return nodes[0]
}

// Mask has a bit for every chunk that holds something.
func (l *Leaf) Mask() uint16 {
	var mask uint16
	for i, c := range l.Chunks {
		if c != nil {
			mask |= 1 << i
		}
	}
	return mask
}

// Encode returns the leaf: header, number, for each chunk its length, then the chunks, CRC-32C.
func (l *Leaf) Encode() []byte {
	p := header(leafMagic)
	p = binary.LittleEndian.AppendUint64(p, l.Number)
	dir := len(p)
	p = append(p, make([]byte, 4*ChunksPerLeaf)...)
	for i, c := range l.Chunks {
		if c == nil {
			continue
		}
		start := len(p)
		p = binary.AppendUvarint(p, uint64(c.Owner))
		root := c.Root()
		p = slices.Grow(p, c.frames()*usualFrame)
		p = append(p, root[:]...)
		for j := range c.Cells {
			p = binary.AppendUvarint(p, uint64(len(c.Cells[j])))
			for k := range c.Cells[j] {
				p = appendFrame(p, &c.Cells[j][k])
			}
		}
		binary.LittleEndian.PutUint32(p[dir+4*i:], uint32(len(p)-start))
	}
	return checksum(p)
}

const leafStart = headerSize + 8 + 4*ChunksPerLeaf

// DecodeLeaf reads what Encode wrote and checks every Merkle root.
func DecodeLeaf(p []byte) (*Leaf, error) {
	r, err := newReader(p, leafMagic)
	if err != nil {
		return nil, fmt.Errorf("decode leaf: %w", err)
	}
	if len(p) < leafStart+4 {
		return nil, fmt.Errorf("decode leaf: %d bytes: %w", len(p), ErrInvalid)
	}
	l := &Leaf{Number: binary.LittleEndian.Uint64(r.take(8))}
	if l.Number >= MaxSize/LeafSize {
		return nil, fmt.Errorf("decode leaf: number %d: %w", l.Number, ErrInvalid)
	}
	dir := r.take(4 * ChunksPerLeaf)
	for i := range l.Chunks {
		n := binary.LittleEndian.Uint32(dir[4*i:])
		if n == 0 {
			continue
		}
		if uint64(n) > uint64(len(r.p)) {
			return nil, fmt.Errorf("decode leaf: chunk of %d bytes: %w", n, ErrInvalid)
		}
		if l.Chunks[i], err = decodeChunk(r.take(int(n))); err != nil {
			return nil, fmt.Errorf("decode leaf: chunk %d: %w", i, err)
		}
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("decode leaf: %w", err)
	}
	return l, nil
}

func decodeChunk(p []byte) (*Chunk, error) {
	r := &reader{p: p}
	c := &Chunk{Owner: r.uint32()}
	root := r.hash()
	for i := range c.Cells {
		n := r.count(minFrame)
		if n > BlocksPerCell { // each has a live block of its own
			r.fail("%d frames", n)
			break
		}
		c.Cells[i] = r.frames(n)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	if c.Empty() || c.Root() != root {
		return nil, fmt.Errorf("merkle root: %w", ErrInvalid)
	}
	return c, nil
}

// frames reads the frames of a cell, of which no two may claim a block.
func (r *reader) frames(n int) []Frame {
	if n == 0 {
		return nil
	}
	list, seen := make([]Frame, n), uint16(0)
	for i := range list {
		list[i] = r.frame()
		if seen&list[i].Live != 0 {
			r.fail("block in two frames")
		}
		seen |= list[i].Live
	}
	return list
}

// LeafCell finds the frames of a cell in an encoded leaf that DecodeLeaf has accepted, and the owner of
// its chunk, without decoding the rest.
func LeafCell(p []byte, cell uint64) (owner uint32, frames []Frame) {
	at, off := int(cell/CellsPerChunk%ChunksPerLeaf), leafStart
	dir := p[headerSize+8:]
	for i := range at {
		off += int(binary.LittleEndian.Uint32(dir[4*i:]))
	}
	n := int(binary.LittleEndian.Uint32(dir[4*at:]))
	if n == 0 {
		return 0, nil
	}
	r := &reader{p: p[off : off+n]}
	owner = r.uint32()
	r.hash()
	for range cell % CellsPerChunk {
		for range r.uvarint() {
			r.uvarint()
			r.uvarint()
			r.uvarint()
			r.take(4 + len(Hash{}))
		}
	}
	return owner, r.frames(int(r.uvarint()))
}
