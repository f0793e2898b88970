package table

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// A VIP's ring is the half of a region of chunks that the VIP's word names: base chunk 24 bits, slots 24, epoch
// 16. The epoch's lowest bit says which half, so the region can be found from the word alone.
const (
	slotsPerChunk = 32
	maxRing       = 65537
)

func chunks(slots int) int { return (slots + slotsPerChunk - 1) / slotsPerChunk }

type region struct {
	base, size int // in chunks; both halves
}

func ringWord(base, slots int, epoch uint64) uint64 {
	return uint64(base) | uint64(slots)<<24 | epoch<<48
}

func ringParts(word uint64) (base, slots int, epoch uint64) {
	return int(word & 0xffffff), int(word >> 24 & 0xffffff), word >> 48
}

func regionOf(word uint64) region {
	base, slots, epoch := ringParts(word)
	size := chunks(slots)
	return region{base: base - int(epoch&1)*size, size: 2 * size}
}

// SetRing gives a VIP the ring that its new flows are spread by: any length up to 65,537, at best a prime much
// larger than the number of backends. A packet meets the old ring or the new one. An empty one refuses all.
func (t *Table) SetRing(id VIPID, ring []BackendID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(id) >= len(t.shared.vips.Elems) || id == 0 || t.shared.vips.Elems[id].Used == 0 || slices.Contains(t.retiredVIPs, id) {
		return fmt.Errorf("ring of VIP %d: there is no such VIP", id)
	}
	if len(ring) > maxRing {
		return fmt.Errorf("ring of VIP %d: %d slots are more than %d", id, len(ring), maxRing)
	}
	for _, b := range ring {
		if int(b) >= len(t.shared.backends.Elems) {
			return fmt.Errorf("ring of VIP %d: there is no backend %d", id, b)
		}
	}
	v := &t.shared.vips.Elems[id]
	old := atomic.LoadUint64(&v.Ring)
	_, slots, epoch := ringParts(old)
	at := regionOf(old)
	switch {
	case slots == len(ring) && t.sameRing(old, ring):
		return nil
	case chunks(slots) != chunks(len(ring)):
		fresh, err := t.allocate(2 * chunks(len(ring)))
		if err != nil {
			return fmt.Errorf("ring of VIP %d: %w", id, err)
		}
		t.writeRing(fresh.base, ring)
		atomic.StoreUint64(&v.Ring, ringWord(fresh.base, len(ring), (epoch+2)&0xfffe))
		t.space.retire(at, t.clock.leave())
	default:
		if err := t.clock.await(t.space.left[at.base]); err != nil {
			return err
		}
		half := ^epoch & 1
		base := at.base + int(half)*at.size/2
		t.writeRing(base, ring)
		atomic.StoreUint64(&v.Ring, ringWord(base, len(ring), (epoch&^1+2)&0xfffe|half))
		t.space.left[at.base] = t.clock.leave()
	}
	return nil
}

func (t *Table) writeRing(base int, ring []BackendID) {
	for i := 0; i < len(ring); i += slotsPerChunk {
		chunk := &t.shared.rings.Elems[base+i/slotsPerChunk]
		for j, b := range ring[i:min(i+slotsPerChunk, len(ring))] {
			chunk.Backend[j] = uint16(b)
		}
	}
}

func (t *Table) sameRing(word uint64, ring []BackendID) bool {
	base, _, _ := ringParts(word)
	for i, b := range ring {
		if t.shared.rings.Elems[base+i/slotsPerChunk].Backend[i%slotsPerChunk] != uint16(b) {
			return false
		}
	}
	return true
}

// Ring is what a VIP's new flows are spread by now; an earlier process may have left it.
func (t *Table) Ring(id VIPID) []BackendID {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(id) >= len(t.shared.vips.Elems) {
		return nil
	}
	return t.ring(&t.shared.vips.Elems[id])
}

// ring is what a VIP's flows are spread by now.
func (t *Table) ring(v *lb.VIP) []BackendID {
	base, slots, _ := ringParts(atomic.LoadUint64(&v.Ring))
	ring := make([]BackendID, slots)
	for i := range ring {
		ring[i] = BackendID(t.shared.rings.Elems[base+i/slotsPerChunk].Backend[i%slotsPerChunk])
	}
	return ring
}

// allocate finds room, if need be by waiting until retired regions may be used again.
func (t *Table) allocate(size int) (region, error) {
	if r, ok := t.space.take(size); ok {
		return r, nil
	}
	for _, r := range t.space.retired {
		if err := t.clock.await(r.left); err != nil {
			return region{}, err
		}
	}
	t.space.reuse()
	if err := t.freeVIPs(); err != nil {
		return region{}, err
	}
	if r, ok := t.space.take(size); ok {
		return r, nil
	}
	return region{}, fmt.Errorf("%w for %d slots: raise the number of ring slots", ErrFull, size/2*slotsPerChunk)
}

// space allocates chunks, first fit.
type space struct {
	free    []region // by base, none touches another
	retired []retiredRegion
	left    map[int]uint64 // by a region's base: when its other half was left
}

type retiredRegion struct {
	region
	left uint64
}

func newSpace(chunks int) space {
	return space{free: []region{{0, chunks}}, left: make(map[int]uint64)}
}

func (s *space) take(size int) (region, bool) {
	if size == 0 {
		return region{}, true
	}
	for i := range s.free {
		f := &s.free[i]
		if f.size < size {
			continue
		}
		r := region{f.base, size}
		if f.base, f.size = f.base+size, f.size-size; f.size == 0 {
			s.free = slices.Delete(s.free, i, i+1)
		}
		return r, true
	}
	return region{}, false
}

// claim takes a certain region: one that an earlier process gave to a VIP.
func (s *space) claim(r region) error {
	if r.size == 0 {
		return nil
	}
	for i, f := range s.free {
		if f.base > r.base || f.base+f.size < r.base+r.size {
			continue
		}
		s.free = slices.Delete(s.free, i, i+1)
		s.release(region{f.base, r.base - f.base})
		s.release(region{r.base + r.size, f.base + f.size - r.base - r.size})
		return nil
	}
	return errors.New("two rings share memory")
}

func (s *space) retire(r region, left uint64) {
	delete(s.left, r.base)
	if r.size > 0 {
		s.retired = append(s.retired, retiredRegion{r, left})
	}
}

// reuse frees what has been retired; the caller has waited.
func (s *space) reuse() {
	for _, r := range s.retired {
		s.release(r.region)
	}
	s.retired = nil
}

// release frees a region that no packet can find.
func (s *space) release(r region) {
	if r.size == 0 {
		return
	}
	delete(s.left, r.base)
	i, _ := slices.BinarySearchFunc(s.free, r.base, func(f region, base int) int { return f.base - base })
	s.free = slices.Insert(s.free, i, r)
	for _, j := range []int{i, i - 1} { // joins its right, then its left neighbour
		if j >= 0 && j+1 < len(s.free) && s.free[j].base+s.free[j].size == s.free[j+1].base {
			s.free[j].size += s.free[j+1].size
			s.free = slices.Delete(s.free, j+1, j+2)
		}
	}
}
