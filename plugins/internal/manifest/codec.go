package manifest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"math/bits"
	"slices"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	deltaMagic   = "RDLT"
	fullMagic    = "RFUL"
	version      = 1
	headerSize   = 16 // magic, version, reserved, incompatible features
	maxFrame     = CellSize + frameOverhead
	maxObjectKey = 512
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the delta's object: header, object table, zeroes, frames, CRC-32C.
func (d *Delta) Encode() []byte {
	t := newTable()
	for i := range d.Frames {
		t.add(d.Frames[i].Object)
	}
	p := header(deltaMagic)
	for _, v := range []uint64{d.Epoch, d.After, d.Seq} {
		p = binary.AppendUvarint(p, v)
	}
	p = t.append(p)
	p = binary.AppendUvarint(p, uint64(len(d.Zeros)))
	for _, z := range d.Zeros {
		p = binary.AppendUvarint(binary.AppendUvarint(p, z.First), z.Count)
	}
	p = binary.AppendUvarint(p, uint64(len(d.Frames)))
	for i := range d.Frames {
		p = binary.AppendUvarint(p, d.Frames[i].Cell)
		p = t.frame(p, &d.Frames[i].Frame)
	}
	return seal(p)
}

// DecodeDelta reads what Encode wrote.
func DecodeDelta(p []byte) (*Delta, error) {
	r, err := newReader(p, deltaMagic)
	if err != nil {
		return nil, fmt.Errorf("decode delta: %w", err)
	}
	d := &Delta{Epoch: r.uvarint(), After: r.uvarint(), Seq: r.uvarint()}
	objects := r.objects()
	for range r.count(2) {
		d.Zeros = append(d.Zeros, Range{r.uvarint(), r.uvarint()})
	}
	for range r.count(minFrame) {
		d.Frames = append(d.Frames, CellFrame{Cell: r.uvarint(), Frame: r.frame(objects)})
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("decode delta: %w", err)
	}
	return d, nil
}

// Encode returns the whole map as an object.
func (m *Map) Encode() []byte {
	t := newTable()
	numbers := slices.Sorted(maps.Keys(m.chunks))
	for _, no := range numbers {
		for i := range m.chunks[no].cells {
			for j := range m.chunks[no].cells[i].frames {
				t.add(m.chunks[no].cells[i].frames[j].Object)
			}
		}
	}
	p := header(fullMagic)
	p = binary.AppendUvarint(binary.AppendUvarint(p, m.blocks), m.seq)
	p = t.append(p)
	p = binary.AppendUvarint(p, uint64(len(numbers)))
	for _, no := range numbers {
		c := m.chunks[no]
		p = binary.AppendUvarint(binary.AppendUvarint(p, no), uint64(c.owner))
		root := c.root()
		p = append(p, root[:]...)
		for i := range c.cells {
			p = binary.AppendUvarint(p, uint64(len(c.cells[i].frames)))
			for j := range c.cells[i].frames {
				f := &c.cells[i].frames[j]
				p = binary.LittleEndian.AppendUint16(p, f.Live)
				p = t.frame(p, f)
			}
		}
	}
	return seal(p)
}

// root is the Merkle root over a chunk's frames; a frame's hash is the leaf.
func (c *chunk) root() Hash {
	var p []byte
	for i := range c.cells {
		for j := range c.cells[i].frames {
			f := &c.cells[i].frames[j]
			p = append(p, byte(i))
			p = binary.LittleEndian.AppendUint16(p, f.Blocks)
			p = binary.LittleEndian.AppendUint16(p, f.Live)
			p = append(p, f.Hash[:]...)
		}
	}
	return Sum(p)
}

// DecodeFull reads what Map.Encode wrote.
func DecodeFull(p []byte) (*Map, error) {
	r, err := newReader(p, fullMagic)
	if err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	m := &Map{blocks: r.uvarint(), seq: r.uvarint(), chunks: make(map[uint64]*chunk)}
	objects := r.objects()
	for range r.count(2 + len(Hash{}) + CellsPerChunk) {
		no, c := r.uvarint(), &chunk{owner: uint32(r.uvarint())}
		root := r.hash()
		for i := range c.cells {
			for range r.count(minFrame) {
				live := r.uint16()
				f := r.frame(objects)
				f.Live = live
				if live == 0 || live&^f.Blocks != 0 || no > 1<<40 || !m.contains(no*CellsPerChunk+uint64(i), f.Blocks) {
					r.fail("frame of chunk %d", no)
				}
				c.cells[i].frames = append(c.cells[i].frames, f)
				c.cells[i].generation = m.seq
			}
		}
		if r.err == nil && c.root() != root {
			r.fail("Merkle root of chunk %d", no)
		}
		m.chunks[no] = c
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	return m, nil
}

func header(magic string) []byte {
	p := make([]byte, headerSize, 512)
	copy(p, magic)
	p[4] = version
	return p
}

func seal(p []byte) []byte {
	return binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

// table numbers the objects of a manifest, so that a frame names its object in one or two bytes.
type table struct {
	index map[*Object]uint64
	list  []*Object
}

func newTable() *table { return &table{index: make(map[*Object]uint64)} }

func (t *table) add(o *Object) {
	if _, ok := t.index[o]; !ok {
		t.index[o] = uint64(len(t.list))
		t.list = append(t.list, o)
	}
}

func (t *table) append(p []byte) []byte {
	p = binary.AppendUvarint(p, uint64(len(t.list)))
	for _, o := range t.list {
		p = binary.AppendUvarint(p, uint64(len(o.Key)))
		p = append(p, o.Key...)
	}
	return p
}

// minFrame is the least a frame takes, which bounds how many an input can hold.
const minFrame = 5 + len(Hash{})

func (t *table) frame(p []byte, f *Frame) []byte {
	p = binary.AppendUvarint(p, t.index[f.Object])
	p = binary.AppendUvarint(p, uint64(f.Offset))
	p = binary.AppendUvarint(p, uint64(f.Length))
	p = binary.LittleEndian.AppendUint16(p, f.Blocks)
	return append(p, f.Hash[:]...)
}

// reader takes fields off the front of p; the first mistake sticks.
type reader struct {
	p   []byte
	err error
}

func newReader(p []byte, magic string) (*reader, error) {
	if len(p) < headerSize+4 || string(p[:4]) != magic {
		return nil, fmt.Errorf("no %s header: %w", magic, ErrInvalid)
	}
	body, sum := p[:len(p)-4], binary.LittleEndian.Uint32(p[len(p)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("checksum: %w", ErrInvalid)
	}
	if p[4] != version || binary.LittleEndian.Uint64(p[8:]) != 0 {
		return nil, fmt.Errorf("version %d, features %#x: %w", p[4], binary.LittleEndian.Uint64(p[8:]), ErrTooNew)
	}
	return &reader{p: body[headerSize:]}, nil
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format+": %w", append(args, ErrInvalid)...)
	}
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.p)
	if n <= 0 {
		r.fail("number")
		r.p = nil
		return 0
	}
	r.p = r.p[n:]
	return v
}

func (r *reader) take(n int) []byte {
	if n > len(r.p) {
		r.fail("%d bytes missing", n-len(r.p))
		r.p = nil
		return make([]byte, n)
	}
	p := r.p[:n]
	r.p = r.p[n:]
	return p
}

func (r *reader) uint16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) hash() Hash     { return Hash(r.take(len(Hash{}))) }

// count reads a number of things of at least size bytes each, and refuses one that cannot fit.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.p)/size) {
		r.fail("count %d", n)
		return 0
	}
	return int(n)
}

func (r *reader) objects() []*Object {
	var list []*Object
	for range r.count(2) {
		n := r.uvarint()
		if n > maxObjectKey {
			r.fail("object key of %d bytes", n)
			return nil
		}
		key := string(r.take(int(n)))
		if err := objstore.CheckKey(key); err != nil {
			r.fail("%v", err)
			return nil
		}
		list = append(list, &Object{Key: key})
	}
	return list
}

func (r *reader) frame(objects []*Object) Frame {
	o, off, n := r.uvarint(), r.uvarint(), r.uvarint()
	f := Frame{Offset: uint32(off), Length: uint32(n), Blocks: r.uint16(), Hash: r.hash()}
	if o >= uint64(len(objects)) || n == 0 || n > maxFrame || off > objstore.MaxObject-n || bits.OnesCount16(f.Blocks) == 0 {
		r.fail("frame at %d+%d of object %d", off, n, o)
		return Frame{}
	}
	f.Object = objects[o]
	return f
}

func (r *reader) end() error {
	if r.err == nil && len(r.p) > 0 {
		r.fail("%d bytes left over", len(r.p))
	}
	return r.err
}
