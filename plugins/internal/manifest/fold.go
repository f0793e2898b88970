package manifest

import (
	"cmp"
	"maps"
	"slices"
)

const (
	// maxBuried bounds the objects that one step finds dead, so that a root stays short.
	maxBuried = 4096
	// MaxGraves is the number of graves above which a step adds no more dead objects to them.
	MaxGraves = 64 << 10
)

// Step is one compaction: new leaves in the place of some old ones and of what deltas have laid over
// them. It is planned without changing the map, published by its caller, and then applied by Finish. The map must
// not change in between; lookups may go on.
type Step struct {
	m      *Map
	leaves map[uint64]LeafRef
	added  []Object
	use    map[uint32]int64 // changes of the live bytes
}

// Begin plans a step.
func (m *Map) Begin() *Step {
	return &Step{m: m, leaves: make(map[uint64]LeafRef), use: make(map[uint32]int64)}
}

// Ref of a leaf as the map has it, false when there is none.
func (m *Map) Ref(leaf uint64) (LeafRef, bool) {
	if leaf >= uint64(len(m.leaves)) {
		return LeafRef{}, false
	}
	ref := m.leaves[leaf].ref
	return ref, !ref.empty()
}

// Fold returns the leaf that old, nil for none, becomes when what lies over it is folded in. Chunks without an
// owner get the given one.
func (s *Step) Fold(no uint64, old *Leaf, owner uint32) *Leaf {
	next := &Leaf{Number: no}
	mask := s.m.leaves[no].ref.Mask
	for i := range next.Chunks {
		c := &Chunk{Owner: owner}
		var before *Chunk
		if old != nil && old.Chunks[i] != nil && mask&(1<<i) != 0 {
			before = old.Chunks[i]
			c.Owner = before.Owner
		}
		first := (no*ChunksPerLeaf + uint64(i)) * CellsPerChunk
		for j := range c.Cells {
			p := s.m.Lookup(first + uint64(j))
			if before == nil {
				p.Leaf = nil
				c.Cells[j] = p.Combine(nil)
				continue
			}
			c.Cells[j] = p.Combine(before.Cells[j])
		}
		if !c.Empty() {
			next.Chunks[i] = c
		}
	}
	return next
}

// Ragged has a bit for every chunk with a cell in more than MaxFrames frames.
func (l *Leaf) Ragged() uint16 {
	var mask uint16
	for i, c := range l.Chunks {
		if c == nil {
			continue
		}
		for j := range c.Cells {
			if len(c.Cells[j]) > MaxFrames {
				mask |= 1 << i
				break
			}
		}
	}
	return mask
}

func (s *Step) count(l *Leaf, sign int64) {
	if l == nil {
		return
	}
	for _, c := range l.Chunks {
		if c == nil {
			continue
		}
		for i := range c.Cells {
			for j := range c.Cells[i] {
				s.use[c.Cells[i][j].Object] += sign * int64(c.Cells[i][j].Length)
			}
		}
	}
}

// Place records that next, which is at ref, takes the place of old. A leaf that holds nothing has no ref.
func (s *Step) Place(old, next *Leaf, ref LeafRef) {
	no := next.Number
	s.count(old, -1)
	for cell := no * CellsPerLeaf; cell < (no+1)*CellsPerLeaf; cell++ {
		if o := s.m.over[cell]; o != nil {
			for i := range o.frames {
				s.use[o.frames[i].Object] -= int64(o.frames[i].Length)
			}
		}
	}
	s.count(next, 1)
	if was := s.m.leaves[no].ref; !was.empty() {
		s.use[was.Object] -= int64(was.Length)
	}
	if mask := next.Mask(); mask != 0 {
		ref.Stored, ref.Mask, ref.Ragged = mask, mask, next.Ragged()
		s.use[ref.Object] += int64(ref.Length)
	} else {
		ref = LeafRef{}
	}
	s.leaves[no] = ref
}

// Add enters an object that the step's leaves refer to, or that holds them.
func (s *Step) Add(o Object) {
	o.Live = 0
	s.added = append(s.added, o)
}

// Plan is what a step needs to have published: first Objects, then a head with this root and delta.
type Plan struct {
	Root    ID
	Delta   ID // of what is still over the leaves, zero for none
	Objects []Published
	next    *next
}

// Graves are the objects that will await deletion.
func (p *Plan) Graves() []Grave { return p.next.graves }

// Published is an object to put.
type Published struct {
	ID   ID
	Data []byte
}

// next is the state after the step, where it differs.
type next struct {
	step       *Step
	table      table
	leafParts  map[uint32]ID
	tableParts map[uint32]ID
	graves     []Grave
}

// Plan ends the planning. deltas are those that the head names so far; dead are further objects that
// nothing refers to.
func (s *Step) Plan(epoch uint64, deltas, dead []ID) *Plan {
	m := s.m
	n := &next{step: s, leafParts: maps.Clone(m.leafParts), tableParts: maps.Clone(m.tableParts)}
	n.table.list = slices.Clone(m.table.list)
	n.table.dirty = maps.Clone(m.table.dirty)
	for i := range s.added {
		n.table.add(s.added[i])
	}
	for number, d := range s.use {
		n.table.use(number, d)
	}
	p := &Plan{next: n}
	n.graves = slices.Clone(m.graves)
	n.graves = append(append(n.graves, deltas...), dead...)
	if !m.root.IsZero() {
		n.graves = append(n.graves, m.root)
	}
	s.bury(n)

	rest := s.rest(epoch)
	s.publishLeafParts(p, epoch)
	s.publishTableParts(p, epoch, rest)
	if len(rest.Frames)+len(rest.Zeros) > 0 {
		p.Delta = p.publish(KindDelta, epoch, m.seq, rest.Encode())
	}
	root := &Root{Epoch: epoch, Seq: m.seq, Size: m.size, Leaves: partList(n.leafParts), Objects: partList(n.tableParts)}
	// What the step itself names again, because it has the same content as something older, is no grave.
	named := make(map[ID]bool, len(p.Objects))
	for i := range p.Objects {
		named[p.Objects[i].ID] = true
	}
	n.graves = slices.DeleteFunc(n.graves, func(id ID) bool { return named[id] })
	root.Graves = n.graves
	p.Root = p.publish(KindRoot, epoch, m.seq, root.Encode())
	return p
}

func (p *Plan) publish(kind Kind, epoch, seq uint64, data []byte) ID {
	id := ID{Kind: kind, Epoch: epoch, Number: seq, Tag: Sum(data).Tag()}
	p.Objects = append(p.Objects, Published{id, data})
	return id
}

// bury takes dead objects out of the table.
func (s *Step) bury(n *next) {
	if len(n.graves) > MaxGraves {
		return
	}
	room := maxBuried
	for i := range n.table.list {
		if o := &n.table.list[i]; o.Live == 0 && room > 0 {
			n.graves = append(n.graves, o.ID())
			n.table.touch(o.Number)
			room--
		}
	}
	left := maxBuried - room
	n.table.list = slices.DeleteFunc(n.table.list, func(o Object) bool {
		if o.Live == 0 && left > 0 {
			left--
			return true
		}
		return false
	})
}

// rest is what stays over the leaves.
func (s *Step) rest(epoch uint64) *Delta {
	m := s.m
	d := &Delta{Epoch: epoch, After: m.seq, Seq: m.seq, Frames: make([]CellFrame, 0, m.frames)}
	for _, cell := range slices.Sorted(maps.Keys(m.over)) {
		if _, folded := s.leaves[cell/CellsPerLeaf]; folded {
			continue
		}
		o := m.over[cell]
		for i := range uint64(BlocksPerCell) {
			if b := cell*BlocksPerCell + i; o.zeros&(1<<i) != 0 && b < m.blocks() {
				d.Zeros = appendBlock(d.Zeros, b)
			}
		}
		for i := range o.frames {
			d.Frames = append(d.Frames, CellFrame{Cell: cell, Frame: o.frames[i]})
		}
	}
	return d
}

func appendBlock(list []Range, b uint64) []Range {
	if n := len(list); n > 0 && list[n-1].First+list[n-1].Count == b {
		list[n-1].Count++
		return list
	}
	return append(list, Range{First: b, Count: 1})
}

func (s *Step) publishLeafParts(p *Plan, epoch uint64) {
	n := p.next
	dirty := maps.Clone(s.m.dirty)
	for no := range s.leaves {
		dirty[uint32(no/leavesPerPart)] = true
	}
	for _, no := range slices.Sorted(maps.Keys(dirty)) {
		data, count := encodeLeafPart(no, uint64(len(s.m.leaves)), func(leaf uint64) LeafRef {
			if ref, ok := s.leaves[leaf]; ok {
				return ref
			}
			return s.m.leaves[leaf].ref
		})
		n.replace(p, n.leafParts, no, epoch, s.m.seq, data, count)
	}
}

// publishTableParts writes what has changed of the table. Live bytes are those of the leaves
// alone: whoever loads the deltas after the root counts theirs.
func (s *Step) publishTableParts(p *Plan, epoch uint64, rest *Delta) {
	n := p.next
	over := make(map[uint32]uint32)
	for i := range rest.Frames {
		over[rest.Frames[i].Object] += rest.Frames[i].Length
	}
	for no := range n.table.dirty {
		objects := slices.Clone(n.table.part(no))
		for i := range objects {
			objects[i].Live -= min(objects[i].Live, over[objects[i].Number])
		}
		n.replace(p, n.tableParts, no, epoch, s.m.seq, encodeObjectPart(no, objects), len(objects))
	}
}

// replace publishes a part in the place of the one before, which becomes a grave.
func (n *next) replace(p *Plan, parts map[uint32]ID, no uint32, epoch, seq uint64, data []byte, count int) {
	old, had := parts[no]
	delete(parts, no)
	if count > 0 {
		if had && old.Matches(data) {
			parts[no] = old
			return
		}
		parts[no] = p.publish(KindPart, epoch, seq, data)
	}
	if had {
		n.graves = append(n.graves, old)
	}
}

func partList(parts map[uint32]ID) []PartID {
	list := make([]PartID, 0, len(parts))
	for no, id := range parts {
		list = append(list, PartID{no, id})
	}
	slices.SortFunc(list, func(a, b PartID) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

// Finish makes the map what the plan has published.
func (m *Map) Finish(p *Plan) {
	n := p.next
	for no, ref := range n.step.leaves {
		l := &m.leaves[no]
		l.ref = ref
		for cell := no * CellsPerLeaf; cell < (no+1)*CellsPerLeaf; cell++ {
			if o := m.over[cell]; o != nil {
				l.change = max(l.change, o.change)
				m.frames -= len(o.frames)
				delete(m.over, cell)
			}
		}
		for i := range uint64(ChunksPerLeaf) {
			if chunk := no*ChunksPerLeaf + i; int64(chunk) < (m.size+ChunkSize-1)/ChunkSize {
				m.setHold(chunk, ref.Mask&(1<<i) != 0)
			}
		}
	}
	n.table.dirty = nil
	m.table = n.table
	m.leafParts, m.tableParts, m.graves, m.root = n.leafParts, n.tableParts, n.graves, p.Root
	m.dirty = make(map[uint32]bool)
}
