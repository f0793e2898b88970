package lease

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"sync/atomic"

	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

func (d *datapath) row(index int) []cSlot {
	return d.slots.Elems[index*slotCount : (index+1)*slotCount]
}

// set makes a service's leases those given, each with the way to its host. A lease that is in a slot stays in it and
// only has its limit moved; flows on it notice nothing.
func (d *datapath) set(index int, leases []engine.Using, paths map[netip.Addr]overlay.Path, agents []uint32) {
	var order uint64
	var taken [slotCount]bool
	n := 0
	for _, u := range leases {
		way, ok := paths[u.Target.Host]
		if !ok {
			continue
		}
		at := d.place(index, generation(u), &taken)
		d.fill(&d.row(index)[at], u, pathOf(u, way), agents[u.Agent])
		taken[at] = true
		if !u.Draining { // one that drains keeps its flows and gets no new ones
			order |= uint64(at) << (4 * n)
			n++
		}
	}
	// First nobody is sent to what is over, then it is taken away.
	atomic.StoreUint64(&d.rows.Elems[index].Order, order|uint64(n)<<32)
	for at := range taken {
		if !taken[at] && d.row(index)[at].Until != 0 {
			d.empty(index, at)
		}
	}
}

// generation is what flows know a lease by: the same for a producer under one epoch, also after a restart, and never 0.
// 28 bits of it fit in their entries; if two leases of a service share them, a flow may change between them once.
func generation(u engine.Using) uint64 {
	h := fnv.New64a()
	h.Write([]byte(u.Producer))
	h.Write(binary.BigEndian.AppendUint64(nil, u.Epoch))
	return h.Sum64()%(1<<28-1) + 1
}

// place finds the slot that holds a lease, else one that has rested; half of them are empty at any time.
func (d *datapath) place(index int, generation uint64, taken *[slotCount]bool) int {
	row := d.row(index)
	for at := range row {
		if !taken[at] && row[at].Until != 0 && row[at].Generation == generation {
			return at
		}
	}
	free := -1
	for range slotCount {
		at := d.next[index] % slotCount
		d.next[index] = at + 1
		if !taken[at] {
			if row[at].Until == 0 {
				return at
			}
			free = at
		}
	}
	return free // at most MaxLeases are taken
}

func (d *datapath) fill(s *cSlot, u engine.Using, path cPath, agent uint32) {
	id := generation(u)
	if s.Until != 0 && s.Generation == id && s.Path == path && s.Token == u.Token && s.Agent == agent {
		atomic.StoreUint64(&s.Until, uint64(u.Expires))
		return
	}
	sequence := atomic.LoadUint64(&s.Sequence) | 1
	atomic.StoreUint64(&s.Sequence, sequence)
	s.Path, s.Generation = path, id
	s.Token, s.Epoch, s.Agent = u.Token, u.Epoch, agent
	clear(s.Producer[:])
	copy(s.Producer[:], u.Producer)
	atomic.StoreUint64(&s.Until, uint64(u.Expires))
	atomic.StoreUint64(&s.Sequence, sequence+1)
}

func (d *datapath) empty(index, at int) {
	s := &d.row(index)[at]
	sequence := atomic.LoadUint64(&s.Sequence) | 1
	atomic.StoreUint64(&s.Sequence, sequence)
	atomic.StoreUint64(&s.Until, 0)
	s.Path = cPath{}
	atomic.StoreUint64(&s.Sequence, sequence+1)
}

func pathOf(u engine.Using, way overlay.Path) cPath {
	p := cPath{VNI: u.Target.VNI, Link: uint32(way.Index), MAC: u.Target.MAC, Epoch: overlay.Wire(u.Epoch), Family: 6}
	if p.MAC == ([6]byte{}) {
		copy(p.MAC[:], overlay.MAC())
	}
	if u.Target.Host.Is4() {
		p.Family = 4
		copy(p.Host[:], u.Target.Host.AsSlice())
		copy(p.Source[:], way.Source.AsSlice())
	} else {
		p.Host, p.Source = u.Target.Host.As16(), way.Source.As16()
	}
	return p
}
