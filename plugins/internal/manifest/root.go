package manifest

import (
	"encoding/binary"
	"fmt"
)

const (
	rootMagic = "RROT"
	partMagic = "RPRT"
	// A part holds the references of this many leaves, or the objects of this run of numbers: little
	// enough that one is written anew for a small change, enough that a root is short.
	leavesPerPart  = 4096
	objectsPerPart = 4096
)

// LeafRef says where a leaf is. Stored has a bit for every chunk in it, Mask one for those that still
// count, Ragged one for those with a cell in more than MaxFrames frames.
type LeafRef struct {
	Object uint32
	Offset uint32
	Length uint32
	Stored uint16
	Mask   uint16
	Ragged uint16
	Hash   Hash
}

func (f *LeafRef) empty() bool { return f.Stored == 0 }

// PartID is a part and the run of leaves or objects in it.
type PartID struct {
	Index uint32
	ID    ID
}

// Grave is an object that nothing refers to any more and that is to be deleted.
type Grave = ID

// Root names all that makes up a manifest but the deltas after it.
type Root struct {
	Epoch   uint64
	Seq     uint64 // sequence number that it covers
	Size    int64  // of the volume
	Leaves  []PartID
	Objects []PartID
	Graves  []Grave
}

// Encode returns the root's object.
func (t *Root) Encode() []byte {
	p := header(rootMagic)
	for _, v := range []uint64{t.Epoch, t.Seq, uint64(t.Size)} {
		p = binary.AppendUvarint(p, v)
	}
	for _, list := range [][]PartID{t.Leaves, t.Objects} {
		p = binary.AppendUvarint(p, uint64(len(list)))
		for i := range list {
			p = appendID(binary.AppendUvarint(p, uint64(list[i].Index)), list[i].ID)
		}
	}
	p = binary.AppendUvarint(p, uint64(len(t.Graves)))
	for _, id := range t.Graves {
		p = appendID(p, id)
	}
	return checksum(p)
}

// DecodeRoot reads what Encode wrote.
func DecodeRoot(p []byte) (*Root, error) {
	r, err := newReader(p, rootMagic)
	if err != nil {
		return nil, fmt.Errorf("decode root: %w", err)
	}
	t := &Root{Epoch: r.uvarint(), Seq: r.uvarint(), Size: int64(r.uvarint())}
	t.Leaves, t.Objects = r.parts(), r.parts()
	for range r.count(minID) {
		t.Graves = append(t.Graves, r.id())
	}
	if t.Size <= 0 || t.Size > MaxSize {
		r.fail("size %d", t.Size)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("decode root: %w", err)
	}
	return t, nil
}

// parts reads part names, whose indices rise.
func (r *reader) parts() []PartID {
	var list []PartID
	for range r.count(1 + minID) {
		part := PartID{r.uint32(), r.id()}
		if part.ID.Kind != KindPart || len(list) > 0 && part.Index <= list[len(list)-1].Index {
			r.fail("part %d", part.Index)
			return nil
		}
		list = append(list, part)
	}
	return list
}

const (
	partOfLeaves  = 0
	partOfObjects = 1
)

// appendRef writes a reference with its place inside the part.
func appendRef(p []byte, at int, f *LeafRef) []byte {
	p = binary.AppendUvarint(p, uint64(at))
	for _, v := range []uint32{f.Object, f.Offset, f.Length} {
		p = binary.AppendUvarint(p, uint64(v))
	}
	for _, v := range []uint16{f.Stored, f.Mask, f.Ragged} {
		p = binary.LittleEndian.AppendUint16(p, v)
	}
	return append(p, f.Hash[:]...)
}

// encodeLeafPart writes the references of part no, which ref returns, nil for none.
func encodeLeafPart(no uint32, total uint64, ref func(leaf uint64) LeafRef) (p []byte, n int) {
	p = append(header(partMagic), partOfLeaves)
	p = binary.AppendUvarint(p, uint64(no))
	first := uint64(no) * leavesPerPart
	for i := uint64(0); i < leavesPerPart && first+i < total; i++ {
		if f := ref(first + i); !f.empty() {
			p = appendRef(p, int(i), &f)
			n++
		}
	}
	return checksum(p), n
}

func decodeLeafPart(p []byte, no uint32, set func(leaf uint64, f LeafRef) bool) error {
	r, err := newPartReader(p, partOfLeaves, no)
	if err != nil {
		return fmt.Errorf("decode part %d of the leaves: %w", no, err)
	}
	for last := -1; len(r.p) > 0 && r.err == nil; {
		at := int(r.uint32())
		f := LeafRef{Object: r.uint32(), Offset: r.uint32(), Length: r.uint32(), Stored: r.uint16(), Mask: r.uint16(), Ragged: r.uint16(), Hash: r.hash()}
		if r.err != nil {
			break
		}
		if at <= last || at >= leavesPerPart || f.empty() || f.Mask&^f.Stored != 0 || f.Ragged&^f.Stored != 0 || f.Length == 0 ||
			!set(uint64(no)*leavesPerPart+uint64(at), f) {
			r.fail("leaf %d", at)
		}
		last = at
	}
	if r.err != nil {
		return fmt.Errorf("decode part %d of the leaves: %w", no, r.err)
	}
	return nil
}

func encodeObjectPart(no uint32, objects []Object) []byte {
	p := append(header(partMagic), partOfObjects)
	p = binary.AppendUvarint(p, uint64(no))
	for i := range objects {
		p = appendObject(p, &objects[i])
	}
	return checksum(p)
}

func decodeObjectPart(p []byte, no uint32) ([]Object, error) {
	r, err := newPartReader(p, partOfObjects, no)
	if err != nil {
		return nil, fmt.Errorf("decode part %d of the objects: %w", no, err)
	}
	list := make([]Object, 0, min(objectsPerPart, len(r.p)/minObject))
	for len(r.p) > 0 && r.err == nil {
		o := r.object()
		if o.Number/objectsPerPart != no || len(list) > 0 && o.Number <= list[len(list)-1].Number {
			r.fail("object %d", o.Number)
		}
		list = append(list, o)
	}
	if r.err != nil {
		return nil, fmt.Errorf("decode part %d of the objects: %w", no, r.err)
	}
	return list, nil
}

func newPartReader(p []byte, kind byte, no uint32) (*reader, error) {
	r, err := newReader(p, partMagic)
	if err != nil {
		return nil, err
	}
	if k, have := r.byte(), r.uint32(); k != kind || have != no {
		r.fail("is part %d of kind %d", have, k)
	}
	return r, r.err
}
