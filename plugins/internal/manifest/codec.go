package manifest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	version    = 2
	headerSize = 16 // magic, version, reserved, incompatible features
	maxFrame   = CellSize + frameOverhead + sealOverhead
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func header(magic string) []byte {
	p := make([]byte, headerSize, 512)
	copy(p, magic)
	p[4] = version
	return p
}

func crc32c(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

func checksum(p []byte) []byte {
	return binary.LittleEndian.AppendUint32(p, crc32c(p))
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
	if crc32c(body) != sum {
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

// uint32 reads a number that must fit.
func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v>>32 != 0 {
		r.fail("number %d", v)
		return 0
	}
	return uint32(v)
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

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) hash() Hash     { return Hash(r.take(len(Hash{}))) }
func (r *reader) tag() Tag       { return Tag(r.take(len(Tag{}))) }

// count reads a number of things of at least size bytes each, and refuses one that cannot fit.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.p)/size) {
		r.fail("count %d", n)
		return 0
	}
	return int(n)
}

func (r *reader) end() error {
	if r.err == nil && len(r.p) > 0 {
		r.fail("%d bytes left over", len(r.p))
	}
	return r.err
}

// minFrame is the least a frame takes, which bounds how many an input can hold.
const minFrame = 3 + 4 + len(Hash{})

// usualFrame is what most frames take, with the number of their cell.
const usualFrame = minFrame + 9

func appendFrame(p []byte, f *Frame) []byte {
	p = binary.AppendUvarint(p, uint64(f.Object))
	p = binary.AppendUvarint(p, uint64(f.Offset))
	p = binary.AppendUvarint(p, uint64(f.Length))
	p = binary.LittleEndian.AppendUint16(p, f.Blocks)
	p = binary.LittleEndian.AppendUint16(p, f.Live)
	return append(p, f.Hash[:]...)
}

func (r *reader) frame() Frame {
	f := Frame{Object: r.uint32(), Offset: r.uint32(), Length: r.uint32(), Blocks: r.uint16(), Live: r.uint16(), Hash: r.hash()}
	if f.Length == 0 || f.Length > maxFrame || int64(f.Offset) > objstore.MaxObject-int64(f.Length) || f.Live == 0 || f.Live&^f.Blocks != 0 {
		r.fail("frame at %d+%d of object %d", f.Offset, f.Length, f.Object)
		return Frame{}
	}
	return f
}

// minObject is the least an object of the table takes.
const minObject = 5 + len(Tag{})

func appendObject(p []byte, o *Object) []byte {
	for _, v := range []uint32{o.Number, o.Epoch, o.Size, o.Live} {
		p = binary.AppendUvarint(p, uint64(v))
	}
	return append(append(p, byte(o.Kind)), o.Tag[:]...)
}

func (r *reader) object() Object {
	o := Object{Number: r.uint32(), Epoch: r.uint32(), Size: r.uint32(), Live: r.uint32(), Kind: Kind(r.byte()), Tag: r.tag()}
	if o.Kind > KindLeaf || o.Size > objstore.MaxObject || o.Live > o.Size {
		r.fail("object %d", o.Number)
	}
	return o
}

// minID is the least an ID takes.
const minID = 3 + len(Tag{})

func appendID(p []byte, id ID) []byte {
	p = append(p, byte(id.Kind))
	p = binary.AppendUvarint(binary.AppendUvarint(p, id.Epoch), id.Number)
	return append(p, id.Tag[:]...)
}

func (r *reader) id() ID {
	id := ID{Kind: Kind(r.byte()), Epoch: r.uvarint(), Number: r.uvarint(), Tag: r.tag()}
	if id.Kind >= kinds {
		r.fail("object of %v", id.Kind)
	}
	return id
}
