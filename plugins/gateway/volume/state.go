package volume

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// The checkpoint's state: version, what is known of the store, which blocks the store holds,
// and what is in the cache. Blocks whose truth is in the log are brought up to date by replay.
const (
	stateVersion = 1
	pageBitmap   = pageBlocks / 8
	slotState    = 4 + 8 + 8 + 2 + cellBlocks*4
	stateHeader  = 64
)

var errState = errors.New("invalid checkpoint state")

// known is what the disk remembers about the store.
type known struct {
	epoch     uint64 // of the last takeover
	confirmed uint64 // sequence number of the last confirmed head
}

// maxState is the most bytes the state of a volume of size bytes with n cache slots takes.
func maxState(size int64, n int64) int64 {
	pages := size/blockSize/pageBlocks + 1
	return stateHeader + pages*(4+pageBitmap) + n*slotState
}

// encodeState must see a cache that does not change: the caller holds c.mu.
func encodeState(k known, x *index, c *cache) []byte {
	le := binary.LittleEndian
	p := make([]byte, stateHeader)
	p[0] = stateVersion
	le.PutUint64(p[8:], k.epoch)
	le.PutUint64(p[16:], k.confirmed)
	pages, slots := 0, 0
	for i := range x.pages {
		pg := x.pages[i].Load()
		if pg == nil {
			continue
		}
		var bitmap [pageBitmap]byte
		any := false
		for b := range pg {
			if pl := entry(pg[b].Load()).place(); pl == inStore || pl == inCache {
				bitmap[b/8] |= 1 << (b % 8)
				any = true
			}
		}
		if any {
			p = le.AppendUint32(p, uint32(i))
			p = append(p, bitmap[:]...)
			pages++
		}
	}
	for i := range c.slots {
		s := c.slots[i].Load()
		if s == nil {
			continue
		}
		var live uint16
		for b := range uint64(cellBlocks) {
			if x.get(s.cell*cellBlocks+b).base() == slotEntry(uint32(i)) {
				live |= 1 << b
			}
		}
		p = le.AppendUint32(p, uint32(i))
		p = le.AppendUint64(p, s.cell)
		p = le.AppendUint64(p, s.generation)
		p = le.AppendUint16(p, live)
		for _, sum := range s.sums {
			p = le.AppendUint32(p, sum)
		}
		slots++
	}
	le.PutUint64(p[24:], uint64(pages))
	le.PutUint64(p[32:], uint64(slots))
	return p
}

// emptyState is the state of a disk that was just formatted; stored says what the store holds of a cell.
func emptyState(k known, size int64, stored func(cell uint64) (uint16, error)) ([]byte, error) {
	x := newIndex(size)
	for cell := range uint64(size+cellSize-1) / cellSize {
		mask, err := stored(cell)
		if err != nil {
			return nil, err
		}
		for i := range uint64(cellBlocks) {
			if mask&(1<<i) != 0 {
				x.set(cell*cellBlocks+i, entryOf(inStore, 0))
			}
		}
	}
	return encodeState(k, x, &cache{}), nil
}

// decodeState fills an empty index and cache.
func decodeState(p []byte, x *index, c *cache) (known, error) {
	le := binary.LittleEndian
	if len(p) < stateHeader {
		return known{}, fmt.Errorf("%d bytes: %w", len(p), errState)
	}
	if p[0] != stateVersion {
		return known{}, fmt.Errorf("state version %d: %w", p[0], log.ErrTooNew)
	}
	k := known{epoch: le.Uint64(p[8:]), confirmed: le.Uint64(p[16:])}
	pages, slots := le.Uint64(p[24:]), le.Uint64(p[32:])
	p = p[stateHeader:]
	if pages > uint64(len(x.pages)) || slots > uint64(len(c.slots)) ||
		uint64(len(p)) != pages*(4+pageBitmap)+slots*slotState {
		return known{}, fmt.Errorf("%d pages, %d slots, %d bytes: %w", pages, slots, len(p), errState)
	}
	for range pages {
		no := le.Uint32(p)
		if uint64(no) >= uint64(len(x.pages)) {
			return known{}, fmt.Errorf("page %d: %w", no, errState)
		}
		for b := range uint64(pageBlocks) {
			if p[4+b/8]&(1<<(b%8)) != 0 {
				x.set(uint64(no)*pageBlocks+b, entryOf(inStore, 0))
			}
		}
		p = p[4+pageBitmap:]
	}
	for range slots {
		n := le.Uint32(p)
		s := &slot{cell: le.Uint64(p[4:]), generation: le.Uint64(p[12:]), blocks: le.Uint16(p[20:])}
		for i := range s.sums {
			s.sums[i] = le.Uint32(p[22+4*i:])
		}
		if uint64(n) >= uint64(len(c.slots)) || s.cell >= uint64(len(x.pages))*pageBlocks/cellBlocks {
			return known{}, fmt.Errorf("slot %d of cell %d: %w", n, s.cell, errState)
		}
		c.slots[n].Store(s)
		for i := range uint64(cellBlocks) {
			if s.blocks&(1<<i) != 0 {
				x.set(s.cell*cellBlocks+i, slotEntry(n))
			}
		}
		p = p[slotState:]
	}
	return k, nil
}
