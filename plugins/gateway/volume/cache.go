package volume

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

const (
	cellSize   = manifest.CellSize
	cellBlocks = manifest.BlocksPerCell
)

// slot describes what a cache slot holds. It never changes: a slot that gets other
// content gets another descriptor, and a reader that finds the same one after
// reading as before has read what it describes.
type slot struct {
	cell       uint64
	generation uint64 // of the cell in the store, when it was filled
	blocks     uint16 // which blocks were filled; which still count is in the index
	sums       [cellBlocks]uint32
	used       atomic.Bool // since the hand last passed
}

// cache keeps clean cells in slots of the disk's data area.
//
// A slot goes round free → filled → quarantine → free; it leaves quarantine when a
// checkpoint is durable that does not refer to it (INVARIANTS S1).
type cache struct {
	disk  log.Disk
	area  log.Area
	slots []atomic.Pointer[slot]

	// mu covers the rest, and every change of an index entry from or to a slot or the store,
	// so that a fill cannot bring back what a commit has replaced.
	mu         sync.Mutex
	cells      map[uint64]uint32 // cell → its slot
	free       []uint32
	quarantine []uint32
	hand       uint32
	buf        []byte // for one cell
}

func newCache(disk log.Disk, area log.Area) *cache {
	return &cache{
		disk: disk, area: area, slots: make([]atomic.Pointer[slot], area.Len/cellSize),
		cells: make(map[uint64]uint32), buf: log.AlignedBuffer(cellSize),
	}
}

// restore lists the free slots once those in use are known.
func (c *cache) restore() {
	for i := range c.slots {
		if s := c.slots[i].Load(); s == nil {
			c.free = append(c.free, uint32(i))
		} else {
			c.cells[s.cell] = uint32(i)
		}
	}
}

func (c *cache) offset(n uint32) int64 { return c.area.Off + int64(n)*cellSize }

// read fills p, an aligned buffer, from the blocks of a cell in slot n, beginning with the first-th. It
// reports false when the slot no longer holds the cell; corrupt when it should but does not.
func (c *cache) read(p []byte, n uint32, cell, first uint64) (ok, corrupt bool, err error) {
	if uint64(n) >= uint64(len(c.slots)) {
		return false, false, nil
	}
	s := c.slots[n].Load()
	if s == nil || s.cell != cell {
		return false, false, nil
	}
	if !s.used.Load() {
		s.used.Store(true)
	}
	if _, err := c.disk.ReadAt(p, c.offset(n)+int64(first)*blockSize); err != nil {
		return false, false, fmt.Errorf("read cache slot %d: %w", n, err)
	}
	if c.slots[n].Load() != s {
		return false, false, nil
	}
	for i := range uint64(len(p)) / blockSize {
		if log.Checksum(p[i*blockSize:(i+1)*blockSize]) != s.sums[first+i] {
			return false, true, nil
		}
	}
	return true, false, nil
}

// fill puts blocks of one cell into the cache and moves their index entries there. want[i] is the entry
// that block i must still have, 0 for a block that is not offered; data holds the blocks at
// their places. Blocks of the cell that are cached already move along into the new slot. current is asked
// under the lock. It returns false, and has changed nothing, when there is no free slot.
func (c *cache) fill(x *index, cell uint64, data []byte, want *[cellBlocks]entry, generation uint64, current func() bool) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !current() {
		return true, nil
	}
	if len(c.free) == 0 {
		return false, nil
	}
	n := c.free[len(c.free)-1]
	copy(c.buf, data[:cellSize])
	expect := *want
	for i := range expect {
		// What has moved since it was offered is not ours to place; if it moved into the old slot, merge
		// takes it along.
		if expect[i] != 0 && x.get(cell*cellBlocks+uint64(i)).base() != expect[i] {
			expect[i] = 0
		}
	}
	old, cached := c.cells[cell]
	if cached {
		if err := c.merge(x, cell, old, &expect); err != nil {
			return true, err
		}
	}
	s := &slot{cell: cell, generation: generation}
	for i := range expect {
		if expect[i] != 0 {
			s.blocks |= 1 << i
			s.sums[i] = log.Checksum(c.buf[i*blockSize : (i+1)*blockSize])
		}
	}
	if s.blocks == 0 {
		return true, nil
	}
	if _, err := c.disk.WriteAt(c.buf, c.offset(n)); err != nil {
		return true, fmt.Errorf("write cache slot %d: %w", n, err)
	}
	c.free = c.free[:len(c.free)-1]
	c.slots[n].Store(s)
	c.cells[cell] = n
	for i := range expect {
		if expect[i] != 0 {
			x.swap(cell*cellBlocks+uint64(i), expect[i], slotEntry(n))
		}
	}
	if cached {
		c.slots[old].Store(nil)
		c.quarantine = append(c.quarantine, old)
	}
	return true, nil
}

// merge adds to c.buf the blocks of the cell that are in slot old and not offered anew.
func (c *cache) merge(x *index, cell uint64, old uint32, expect *[cellBlocks]entry) error {
	var keep uint16
	for i := range expect {
		if expect[i] == 0 && x.get(cell*cellBlocks+uint64(i)).base() == slotEntry(old) {
			keep |= 1 << i
		}
	}
	if keep == 0 {
		return nil
	}
	p := log.AlignedBuffer(cellSize)
	if _, err := c.disk.ReadAt(p, c.offset(old)); err != nil {
		return fmt.Errorf("read cache slot %d: %w", old, err)
	}
	s := c.slots[old].Load()
	for i := range expect {
		b := p[i*blockSize : (i+1)*blockSize]
		if keep&(1<<i) == 0 {
			continue
		}
		if log.Checksum(b) != s.sums[i] {
			// Rotten: the store has it.
			x.swap(cell*cellBlocks+uint64(i), slotEntry(old), entryOf(inStore, 0))
			continue
		}
		copy(c.buf[i*blockSize:], b)
		expect[i] = slotEntry(old)
	}
	return nil
}

// drop takes a block that turned out corrupt out of the cache.
func (c *cache) drop(x *index, block uint64, n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.swap(block, slotEntry(n), entryOf(inStore, 0))
}

// toStore moves an entry to the store under the lock.
func (c *cache) toStore(x *index, block uint64, old entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.swap(block, old, entryOf(inStore, 0))
}

// evict empties up to n slots, those not used lately first, and puts them into quarantine.
func (c *cache) evict(x *index, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Two rounds of the hand are enough: the first clears every mark.
	for left := 2 * len(c.slots); left > 0 && n > 0; left-- {
		i := c.hand
		c.hand = (c.hand + 1) % uint32(len(c.slots))
		s := c.slots[i].Load()
		if s == nil || s.used.Swap(false) {
			continue
		}
		for b := range uint64(cellBlocks) {
			x.swap(s.cell*cellBlocks+b, slotEntry(i), entryOf(inStore, 0))
		}
		c.slots[i].Store(nil)
		delete(c.cells, s.cell)
		c.quarantine = append(c.quarantine, i)
		n--
	}
}

// room returns the number of free slots, and of those in quarantine.
func (c *cache) room() (free, quarantine int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.free), len(c.quarantine)
}

// settled tells that a checkpoint without the first n slots of the quarantine is durable.
func (c *cache) settled(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, c.quarantine[:n]...)
	c.quarantine = c.quarantine[n:]
}

// bytes is how much of the volume the cache holds.
func (c *cache) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.cells)) * cellSize
}

// stride is how many slots are freed at once.
func (c *cache) stride() int { return max(len(c.slots)/evictShare, min(len(c.slots), 2)) }

// low says whether slots should be freed before somebody needs one.
func (c *cache) low() bool {
	free, _ := c.room()
	return free < (c.stride()+1)/2
}
