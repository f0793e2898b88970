package manifest

import (
	"cmp"
	"fmt"
	"slices"
)

// Restore returns the map of a root whose parts get fetches, in any number of goroutines of
// its own choosing. size is the one that the head names.
func Restore(id ID, root *Root, size int64, get func(parts []PartID) ([][]byte, error)) (*Map, error) {
	m := NewMap(size)
	m.root, m.seq, m.graves = id, root.Seq, root.Graves
	m.grow(uint64(root.Size+LeafSize-1) / LeafSize)
	data, err := get(root.Objects)
	if err != nil {
		return nil, err
	}
	for i, part := range root.Objects {
		objects, err := decodeObjectPart(data[i], part.Index)
		if err != nil {
			return nil, err
		}
		m.table.list = append(m.table.list, objects...)
		m.tableParts[part.Index] = part.ID
		data[i] = nil
	}
	if data, err = get(root.Leaves); err != nil {
		return nil, err
	}
	for i, part := range root.Leaves {
		if err := decodeLeafPart(data[i], part.Index, m.setRef); err != nil {
			return nil, err
		}
		m.leafParts[part.Index] = part.ID
		data[i] = nil
	}
	return m, nil
}

// setRef takes a reference from a part and reports whether it makes sense.
func (m *Map) setRef(leaf uint64, ref LeafRef) bool {
	o := m.table.find(ref.Object)
	if leaf >= uint64(len(m.leaves)) || o == nil || o.Kind != KindLeaf || uint64(ref.Offset)+uint64(ref.Length) > uint64(o.Size) {
		return false
	}
	for i := range uint64(ChunksPerLeaf) {
		if ref.Mask&(1<<i) == 0 {
			continue
		}
		chunk := leaf*ChunksPerLeaf + i
		if int64(chunk) >= (m.size+ChunkSize-1)/ChunkSize {
			return false
		}
		m.setHold(chunk, true)
	}
	m.leaves[leaf].ref = ref
	return true
}

// Refers reports whether the root or anything below it names an object. What a head names beside
// that, its caller knows.
func (m *Map) Refers(id ID) bool {
	switch id.Kind {
	case KindData, KindLeaf:
		if id.Number>>32 != 0 {
			return false
		}
		o := m.table.find(uint32(id.Number))
		return o != nil && o.ID() == id
	case KindRoot:
		return id == m.root
	case KindPart:
		for _, part := range m.leafParts {
			if part == id {
				return true
			}
		}
		for _, part := range m.tableParts {
			if part == id {
				return true
			}
		}
	}
	return false
}

// Graves are the objects that await deletion. A committed head says so.
func (m *Map) Graves() []Grave { return m.graves }

// Buried takes graves off the list whose objects are gone. Nothing happens when a later head still lists them.
func (m *Map) Buried(ids map[ID]bool) {
	m.graves = slices.DeleteFunc(slices.Clone(m.graves), func(id ID) bool { return ids[id] })
}

// Stats tell how much work compaction has.
type Stats struct {
	Frames  int // over the leaves
	Cells   int // over the leaves
	Ragged  int // leaves with a cell in too many frames
	Cleared int // leaves with chunks that count no more
	Objects int
	Bytes   int64 // in objects of the table
	Live    int64
	Dead    int // objects with nothing live
	Graves  int
}

// Stats of the map.
func (m *Map) Stats() Stats {
	s := Stats{Frames: m.frames, Cells: len(m.over), Objects: len(m.table.list), Graves: len(m.graves)}
	for i := range m.leaves {
		if r := &m.leaves[i].ref; r.Ragged&r.Mask != 0 {
			s.Ragged++
		}
		if r := &m.leaves[i].ref; r.Stored != r.Mask {
			s.Cleared++
		}
	}
	for i := range m.table.list {
		o := &m.table.list[i]
		s.Bytes += int64(o.Size)
		s.Live += int64(o.Live)
		if o.Live == 0 {
			s.Dead++
		}
	}
	return s
}

// Pending is the number of cells over the leaves, which is cheap to ask.
func (m *Map) Pending() int { return len(m.over) }

// Covered reports whether anything lies over the leaf of a block.
func (m *Map) Covered(block uint64) bool {
	leaf := block / (CellsPerLeaf * BlocksPerCell)
	for cell := leaf * CellsPerLeaf; cell < (leaf+1)*CellsPerLeaf; cell++ {
		if m.over[cell] != nil {
			return true
		}
	}
	return false
}

// Busiest lists up to n leaves with most cells over them, the busiest first.
func (m *Map) Busiest(n int) []uint64 {
	count := make(map[uint64]int)
	for cell := range m.over {
		count[cell/CellsPerLeaf]++
	}
	list := make([]uint64, 0, len(count))
	for leaf := range count {
		list = append(list, leaf)
	}
	slices.SortFunc(list, func(a, b uint64) int {
		if d := count[b] - count[a]; d != 0 {
			return d
		}
		return int(int64(a) - int64(b))
	})
	return list[:min(n, len(list))]
}

// Untidy lists up to n leaves that hold chunks which count no more or, with ragged, cells in too many frames.
func (m *Map) Untidy(n int, ragged bool) []uint64 {
	var list []uint64
	for i := 0; i < len(m.leaves) && len(list) < n; i++ {
		if r := &m.leaves[i].ref; r.Stored != r.Mask || ragged && r.Ragged != 0 {
			list = append(list, uint64(i))
		}
	}
	return list
}

// Sparsest returns at most n objects of a kind with less than one live byte in four, those with the smallest share first.
func (m *Map) Sparsest(kind Kind, n int) []Object {
	var list []Object
	for _, o := range m.table.list {
		if o.Kind == kind && o.Live > 0 && o.Live < o.Size/4 {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b Object) int {
		return cmp.Compare(uint64(a.Live)*uint64(b.Size), uint64(b.Live)*uint64(a.Size))
	})
	return list[:min(n, len(list))]
}

// LeavesIn lists the leaves that lie in an object.
func (m *Map) LeavesIn(object uint32) []uint64 {
	var list []uint64
	for i := range m.leaves {
		if r := &m.leaves[i].ref; !r.empty() && r.Object == object {
			list = append(list, uint64(i))
		}
	}
	return list
}

// NextNumber is above the numbers of all objects of the table.
func (m *Map) NextNumber() uint32 {
	if n := len(m.table.list); n > 0 {
		return m.table.list[n-1].Number + 1
	}
	return 0
}

func (s Stats) String() string {
	return fmt.Sprintf("%d objects, %d of %d bytes live, %d dead, %d graves, %d cells over the leaves, %d ragged",
		s.Objects, s.Live, s.Bytes, s.Dead, s.Graves, s.Cells, s.Ragged)
}
