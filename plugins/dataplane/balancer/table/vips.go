package table

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// SetVIPs makes these the whole set and returns their ids in the order given. A packet meets the old set or the
// new one. A VIP that was there keeps its id, ring and counters.
func (t *Table) SetVIPs(vips []VIP) ([]VIPID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := make(map[VIP]bool, len(vips))
	for _, v := range vips {
		if err := v.check(); err != nil {
			return nil, err
		}
		if wanted[v.identity()] {
			return nil, fmt.Errorf("VIP %v %v %d-%d is there twice", v.Address, v.Protocol, v.First, v.Last)
		}
		wanted[v.identity()] = true
	}
	if err := t.freeVIPs(); err != nil {
		return nil, err
	}
	ids, added, err := t.vipIDs(vips)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, len(vips))
	for i, v := range vips {
		entries[i] = entry{ids[i], v}
	}
	if err := t.publish(entries); err != nil {
		t.retireVIPs(added) // nothing leads to them
		return nil, err
	}
	var gone []VIPID
	for identity, id := range t.vips {
		if !wanted[identity] {
			gone = append(gone, id)
		}
	}
	t.retireVIPs(gone)
	t.setPolicies(entries)
	return ids, nil
}

// setPolicies writes those of VIPs that were there; one byte each, so no packet sees half of it. A CPU that knows a VIP
// does not look at its policy again in the same epoch.
func (t *Table) setPolicies(entries []entry) {
	changed := false
	for _, e := range entries {
		if v := &t.shared.vips.Elems[e.id]; v.Flags != e.vip.flags() {
			v.Flags, changed = e.vip.flags(), true
		}
	}
	if changed {
		atomic.AddUint64(&t.control().Epoch, 4) // the same half and key
	}
}

// vipIDs finds ids or makes records of new ones, which no packet can find yet.
func (t *Table) vipIDs(vips []VIP) (ids []VIPID, added []VIPID, err error) {
	ids = make([]VIPID, len(vips))
	next := 1
	for i, v := range vips {
		if id, ok := t.vips[v.identity()]; ok {
			ids[i] = id
			continue
		}
		for next < len(t.shared.vips.Elems) && (t.shared.vips.Elems[next].Used != 0 || slices.Contains(t.retiredVIPs, VIPID(next))) {
			next++
		}
		if next == len(t.shared.vips.Elems) {
			t.retireVIPs(added)
			return nil, nil, fmt.Errorf("%w for VIP %v: the table holds %d", ErrFull, v.Address, next-1)
		}
		ids[i] = VIPID(next)
		t.writeVIP(ids[i], v)
		t.vips[v.identity()] = ids[i]
		added = append(added, ids[i])
	}
	return ids, added, nil
}

func (t *Table) writeVIP(id VIPID, v VIP) {
	w, _ := words(v.Address)
	t.shared.vips.Elems[id] = lb.VIP{
		Address: w, First: v.First, Last: v.Last,
		Family: family(v.Address), Protocol: uint8(v.Protocol), Flags: v.flags(), Used: 1,
	}
	for cpu := range t.cpus {
		t.shared.vipCount.Elems[cpu*len(t.shared.vips.Elems)+int(id)] = lb.VIPCounter{}
	}
}

// publish writes the half that is not in use and makes it the one that is.
func (t *Table) publish(entries []entry) error {
	if err := t.clock.await(t.halfWritten); err != nil {
		return err
	}
	c := t.control()
	epoch := atomic.LoadUint64(&c.Epoch)
	next := (epoch&^3 + 4) | ^epoch&1 // the other half; bit 1 is the key's half
	if t.inPlace {
		next ^= 1
	}
	h := t.half(next)
	err := h.fill(entries, &t.key, 0)
	if errors.Is(err, errTags) {
		next |= 2
		err = h.fill(entries, &t.key, 1)
	}
	if err != nil {
		return err
	}
	atomic.StoreUint64(&c.Epoch, next)
	t.halfWritten = t.clock.leave()
	return nil
}

func (t *Table) half(epoch uint64) half {
	hosts, ports := t.shared.hosts.Elems, t.shared.ports.Elems
	h := half{hosts: hosts[:len(hosts)/2], ports: ports[:len(ports)/2]}
	if epoch&1 == 1 {
		h = half{hosts: hosts[len(hosts)/2:], ports: ports[len(ports)/2:]}
	}
	return h
}

// retireVIPs forgets identities; the ids and rings are free once no packet can have found them, for the next process at once.
func (t *Table) retireVIPs(ids []VIPID) {
	for identity, id := range t.vips {
		if slices.Contains(ids, id) {
			delete(t.vips, identity)
		}
	}
	for _, id := range ids {
		t.shared.vips.Elems[id].Used = 0 // which no packet looks at
	}
	t.retiredVIPs = append(t.retiredVIPs, ids...)
}

// freeVIPs gives ids and rings back that have been retired.
func (t *Table) freeVIPs() error {
	if len(t.retiredVIPs) == 0 {
		return nil
	}
	if err := t.clock.await(t.clock.leave()); err != nil {
		return err
	}
	for _, id := range t.retiredVIPs {
		v := &t.shared.vips.Elems[id]
		t.space.release(regionOf(v.Ring))
		*v = lb.VIP{}
	}
	t.retiredVIPs = t.retiredVIPs[:0]
	return nil
}
