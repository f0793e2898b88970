package index

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	cellWords  = 16 // entries of a cell node, also the arena's unit
	chunkWords = 64 // words of a chunk node
	chunkUnits = chunkWords / cellWords

	unitBytes    = cellWords * 8
	segmentBytes = 1 << 20
	segmentUnits = segmentBytes / unitBytes
	maxSegments  = 1<<32/segmentUnits - 1
)

type (
	cellNode  [cellWords]atomic.Uint64
	chunkNode [chunkWords]atomic.Uint64
	segment   [segmentUnits]cellNode
)

// arena hands out nodes of two sizes from memory outside the Go heap. References are unit numbers, never
// 0. Free nodes are chained through their first word.
type arena struct {
	segments atomic.Pointer[[]*segment]
	mapped   *mappings
	next     uint32 // the first unit never used
	free     [2]uint32
	spare    [2]int // length of the free chains
}

const (
	cellClass  = 0
	chunkClass = 1
)

func (a *arena) cell(ref uint32) *cellNode {
	return &(*a.segments.Load())[ref/segmentUnits][ref%segmentUnits]
}

// A chunk node never crosses a segment: see alloc.
func (a *arena) chunk(ref uint32) *chunkNode {
	return (*chunkNode)(unsafe.Pointer(a.cell(ref)))
}

// left is how many units can be taken without mapping memory, free chains aside.
func (a *arena) left() int {
	n := 0
	if p := a.segments.Load(); p != nil {
		n = len(*p) * segmentUnits
	}
	return n - int(a.next)
}

// reserve makes sure that so many cell and chunk nodes can be taken.
func (a *arena) reserve(cells, chunks int) error {
	// A segment's end may be too short for a chunk node; what is skipped there is at most this.
	const waste = chunkUnits
	for max(cells-a.spare[cellClass], 0)+max(chunks-a.spare[chunkClass], 0)*chunkUnits+waste > a.left() {
		if err := a.extend(); err != nil {
			return err
		}
	}
	return nil
}

func (a *arena) extend() error {
	var old []*segment
	if p := a.segments.Load(); p != nil {
		old = *p
	}
	if len(old) == maxSegments {
		return fmt.Errorf("index is full: %w", unix.ENOMEM)
	}
	mem, err := a.mapped.words(segmentBytes)
	if err != nil {
		return err
	}
	if len(old) == 0 {
		a.next = chunkUnits // reference 0 is none
	}
	grown := append(old[:len(old):len(old)], (*segment)(unsafe.Pointer(&mem[0])))
	a.segments.Store(&grown)
	return nil
}

// alloc returns a node whose words are 0. reserve has made room.
func (a *arena) alloc(class int) uint32 {
	if ref := a.free[class]; ref != 0 {
		first := &a.cell(ref)[0]
		a.free[class] = uint32(first.Load())
		a.spare[class]--
		first.Store(0)
		return ref
	}
	units := uint32(1)
	if class == chunkClass {
		// Units are aligned to a node's size, so that none crosses a segment.
		units = chunkUnits
		for a.next%chunkUnits != 0 {
			a.release(a.next, cellClass)
			a.next++
		}
	}
	ref := a.next
	a.next += units
	return ref
}

// release takes a node back, all of whose words are cleared.
func (a *arena) release(ref uint32, class int) {
	n := a.cell(ref)[:]
	if class == chunkClass {
		n = a.chunk(ref)[:]
	}
	for i := range n {
		n[i].Store(0)
	}
	n[0].Store(uint64(a.free[class]))
	a.free[class] = ref
	a.spare[class]++
}

// mappings is every piece of memory that an index has mapped. It outlives the index by a garbage collection: readers
// hold the index, so what they stand on cannot be unmapped under them.
type mappings struct {
	list [][]byte
	size atomic.Int64 // of all; read by whoever wants to know
}

func (m *mappings) words(bytes int) ([]byte, error) {
	p, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes for the index: %w", bytes, err)
	}
	m.list = append(m.list, p)
	m.size.Add(int64(bytes))
	return p, nil
}

func (m *mappings) bytes() int64 { return m.size.Load() }

func (m *mappings) unmap() {
	for _, p := range m.list {
		_ = unix.Munmap(p) // fails only for what is not mapped
	}
}
