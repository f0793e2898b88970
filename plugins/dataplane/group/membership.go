package group

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// Way finds the link and the source address towards a member's host.
type Way func(host netip.Addr) (overlay.Path, error)

// Set programs a group: packets see its old membership or this one. Members to whose host there is no way get no
// flows; unreachable says which. After an error the group is not in the program at all: nothing goes where it went
// before.
func (d *Datapath) Set(g *Group, way Way) (unreachable, err error) {
	if unreachable, err = d.set(g, way); err != nil {
		err = errors.Join(err, d.Remove(g.ID))
	}
	return unreachable, err
}

func (d *Datapath) set(g *Group, way Way) (unreachable, err error) {
	at := d.rowOf(g.ID)
	if at >= 0 && (d.rows.Elems[at].policy != uint32(g.Policy) || !sameAddresses(d.addresses[uint32(at)], g.Addresses)) {
		// Another group under the same number: the number was given by another control plane.
		if err := d.clear(at); err != nil {
			return nil, err
		}
		at = -1
	}
	fresh := at < 0
	if fresh {
		if at, err = d.freeRow(g); err != nil {
			return nil, err
		}
		if err := d.grace(at); err != nil {
			return nil, err
		}
		d.rows.Elems[at].tag, d.rows.Elems[at].policy = g.ID, uint32(g.Policy)
	}
	if err := d.grace(at); err != nil {
		return nil, err
	}
	word := atomic.LoadUint64(&d.rows.Elems[at].word)
	next := (g.Changed << 1) | (^word & 1)
	if d.early {
		atomic.StoreUint64(&d.rows.Elems[at].word, next)
	}
	h, was := &d.halves.Elems[2*at+int(next&1)], &d.halves.Elems[2*at+int(word&1)]
	if fresh {
		was.forget(h)
	}
	unreachable = h.fill(was, g, way, d.midway)
	atomic.StoreUint64(&d.rows.Elems[at].word, next)
	d.flipped[at] = true
	if fresh {
		d.addresses[uint32(at)] = slices.Clone(g.Addresses)
		for _, a := range g.Addresses {
			if err := d.loaded.Maps["group_addresses"].Put(a.As16(), uint32(at)); err != nil {
				return nil, fmt.Errorf("program address %s: %w", a, err)
			}
		}
	}
	return unreachable, nil
}

// fill writes a half that no program reads. was is the half in use: a slot keeps what its flows are bound to as
// long as the same VNI of the same generation owns it.
func (h *half) fill(was *half, g *Group, way Way, midway func()) error {
	h.version = g.Changed
	usable := slices.Clone(g.Members)
	var problems []error
	for i := range h.members {
		h.members[i] = memberRow{bound: was.members[i].bound, vni: was.members[i].vni, generation: was.members[i].generation}
	}
	for i, m := range g.Members {
		r := &h.members[m.Slot]
		if old := &was.members[m.Slot]; old.vni != m.VNI || old.generation != m.Generation {
			r.bound = (old.bound + 1) & 0xfff
		}
		r.vni, r.generation, r.epoch, r.mac = m.VNI, m.Generation, m.Epoch, m.MAC
		if m.State == Down {
			continue
		}
		path, err := way(m.Underlay)
		if err != nil {
			usable[i].State = Down
			problems = append(problems, fmt.Errorf("member %s of group %s: %w", m.Name, g.Name, err))
			continue
		}
		r.link, r.usable, r.family = uint32(path.Index), 1, 6
		r.underlay, r.source = m.Underlay.As16(), path.Source.As16()
		if m.Underlay.Is4() {
			r.family = 4
			r.underlay, r.source = four(m.Underlay), four(path.Source)
		}
	}
	if midway != nil {
		midway()
	}
	h.ring = *Spread(usable)
	return errors.Join(problems...)
}

// forget makes what a row was used for before count for nothing: no flow is bound to what comes.
func (h *half) forget(other *half) {
	for i := range h.members {
		h.members[i] = memberRow{bound: max(h.members[i].bound, other.members[i].bound)}
	}
}

func four(a netip.Addr) (b [16]byte) {
	if a.Is4() {
		as4 := a.As4()
		copy(b[:], as4[:])
	}
	return b
}

// Remove takes a group out: its addresses are nobody's any more.
func (d *Datapath) Remove(id uint32) error {
	if at := d.rowOf(id); at >= 0 {
		return d.clear(at)
	}
	return nil
}

// Programmed lists the groups that are in the program, by number, with their addresses.
func (d *Datapath) Programmed() map[uint32][]netip.Addr {
	all := map[uint32][]netip.Addr{}
	for at := range d.rows.Elems {
		if r := &d.rows.Elems[at]; r.word != 0 {
			all[r.tag] = d.addresses[uint32(at)]
		}
	}
	return all
}

func (d *Datapath) clear(at int) error {
	m := d.loaded.Maps["group_addresses"]
	for _, a := range d.addresses[uint32(at)] {
		var owner uint32
		err := m.Lookup(a.As16(), &owner)
		if err == nil && owner == uint32(at) { // else another group has taken it since
			err = m.Delete(a.As16())
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("take out address %s: %w", a, err)
		}
	}
	delete(d.addresses, uint32(at))
	// The half stays as it is: a program that has just looked the address up may still read it.
	atomic.StoreUint64(&d.rows.Elems[at].word, 0)
	d.flipped[at] = true
	return nil
}

// rowOf is the row of a group, -1 if it has none.
func (d *Datapath) rowOf(id uint32) int {
	return slices.IndexFunc(d.rows.Elems, func(r row) bool { return r.word != 0 && r.tag == id })
}

func (d *Datapath) freeRow(g *Group) (int, error) {
	for at := range d.rows.Elems {
		if d.rows.Elems[at].word == 0 {
			return at, nil
		}
	}
	return 0, fmt.Errorf("group %s: the program has room for %d groups: raise groups.capacity of this host's agent", g.Name, len(d.rows.Elems))
}

// grace makes sure that no program still reads what the last flip of a row took out of use.
func (d *Datapath) grace(at int) error {
	if !d.flipped[at] || d.hasty {
		return nil
	}
	return d.Settle()
}

// Settle waits until no program reads what was taken out of use: the next change does not have to.
func (d *Datapath) Settle() error {
	if len(d.flipped) == 0 {
		return nil
	}
	if err := bpf.Grace(); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	clear(d.flipped)
	return nil
}

func sameAddresses(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}
