package balancer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/health"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/maglev"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/steer"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
)

// configure brings a configuration into force. What is in both the old and the new one keeps its state. On an error
// what was in force stays so, as far as the table allows.
func (r *run) configure(ctx context.Context, d Desired) error {
	old := r.d
	if len(r.backends) > 0 && (d.Flows != old.Flows || d.Source4 != old.Source4 || d.Source6 != old.Source6 || d.MTU != old.MTU) {
		return plugin.ErrNeedsRestart
	}
	backends := map[backendKey]*backend{}
	byHost := map[hostComponent][]*backend{}
	var vips []*vip
	byName := map[string]*vip{}
	r.mu.Lock()
	for i := range d.VIPs {
		v := r.keepVIP(d.VIPs[i])
		for j := range v.members {
			m := &v.members[j]
			if backends[m.key] == nil {
				backends[m.key] = m.backend
				if m.key.host != "" {
					at := hostComponent{m.key.host, m.key.component}
					byHost[at] = append(byHost[at], m.backend)
				}
			}
		}
		vips = append(vips, v)
		byName[v.Name] = v
	}
	share(vips)
	r.d, r.backends, r.byHost, r.byName = d, backends, byHost, byName
	r.mu.Unlock()
	r.resolve(ctx)
	r.check(vips)
	if err := r.fill(vips); err != nil {
		return err
	}
	r.configurePeers(d)
	r.configureAnnouncing(d, old)
	return nil
}

// check has the backends of VIPs with a health check looked at.
func (r *run) check(vips []*vip) {
	var targets []health.Target
	r.mu.Lock()
	for _, v := range vips {
		for j := range v.members {
			if m := &v.members[j]; v.Check != nil && m.address.IsValid() {
				m.target, m.checked = health.Target{Address: m.address, Check: *v.Check}, true
				targets = append(targets, m.target)
			}
		}
	}
	r.mu.Unlock()
	r.monitor.Set(targets)
}

// keepVIP makes the runtime of a VIP, with what is known of it and its backends already. r.mu is held.
func (r *run) keepVIP(c VIP) *vip {
	v := &vip{VIP: c, dirty: true, marked: r.part.now()}
	former := r.byName[c.Name]
	for _, bc := range c.Backends {
		key := backendKey{bc.Host, bc.Address, c.Component}
		b := r.backends[key]
		if b == nil {
			b = &backend{key: key, lost: r.part.now()}
			if bc.Address.IsValid() {
				b.move(bc.Address)
			}
			// Another VIP of this configuration may use it as well.
			r.backends[key] = b
		}
		b.quicID = bc.QUICServerID
		m := member{backend: b, name: bc.name(), weight: bc.Weight}
		if former != nil {
			if i := slices.IndexFunc(former.members, func(o member) bool { return o.backend == b }); i >= 0 {
				m.serving, m.began, m.state = former.members[i].serving, former.members[i].began, former.members[i].state
			}
		}
		v.members = append(v.members, m)
	}
	return v
}

// share gives each backend the strictest of what its VIPs want.
func share(vips []*vip) {
	seen := map[*backend]bool{}
	for _, v := range vips {
		for i := range v.members {
			b, limit := v.members[i].backend, v.Backends[i].Limit
			if !seen[b] {
				seen[b] = true
				b.ttl, b.slow, b.limit = v.ReportTTL, v.SlowStart, limit
				continue
			}
			b.ttl, b.slow = min(b.ttl, v.ReportTTL), max(b.slow, v.SlowStart)
			if limit != 0 && (b.limit == 0 || limit < b.limit) {
				b.limit = limit
			}
		}
	}
}

// fill brings VIPs and backends into the table. Backends that go are in it until no ring names them.
func (r *run) fill(vips []*vip) error {
	if err := r.placeBackends(true); err != nil {
		return err
	}
	keys := make([]table.VIP, len(vips))
	for i, v := range vips {
		keys[i] = v.Key
	}
	ids, err := r.table.SetVIPs(keys)
	if err != nil {
		return err
	}
	sizes := ringSizes(vips)
	for i, v := range vips {
		v.id, v.size = ids[i], sizes[i]
	}
	r.mu.Lock()
	r.vips = vips
	r.mu.Unlock()
	r.flush()
	return r.placeBackends(false)
}

// placeBackends gives the table all backends whose address is known; with former, also those it has already.
func (r *run) placeBackends(former bool) error {
	r.mu.Lock()
	var all []*backend
	seen := map[place]bool{}
	for _, v := range r.d.VIPs {
		for _, bc := range v.Backends {
			b := r.backends[backendKey{bc.Host, bc.Address, v.Component}]
			if b == nil || !b.address.IsValid() || seen[b.where()] {
				continue
			}
			seen[b.where()] = true
			all = append(all, b)
		}
	}
	entries := make([]table.Backend, len(all), len(all)+len(r.placed))
	for i, b := range all {
		entries[i] = r.entry(b)
	}
	known := r.placed
	r.mu.Unlock()
	if former {
		for _, e := range known {
			if at := (place{e.Address, e.Component}); !seen[at] {
				seen[at] = true
				entries = append(entries, e)
			}
		}
	}
	if slices.EqualFunc(entries, known, sameEntry) {
		return nil
	}
	ids, err := r.table.SetBackends(entries)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.placed = entries
	for i, b := range all {
		r.identify(b, ids[i])
	}
	r.mu.Unlock()
	r.keepHops()
	return nil
}

// entry is a backend as the table wants it. r.mu is held.
func (r *run) entry(b *backend) table.Backend {
	return table.Backend{
		Address: b.address, Component: b.key.component, Encapsulation: r.d.Encapsulation, VNI: r.d.VNI, QUICServerID: b.quicID,
	}
}

func sameEntry(a, b table.Backend) bool {
	return a.Address == b.Address && a.Component == b.Component && a.Encapsulation == b.Encapsulation && a.VNI == b.VNI && a.QUICServerID == b.QUICServerID
}

// identify notes a backend's number in the table. r.mu is held.
func (r *run) identify(b *backend, id table.BackendID) {
	if b.id == id {
		return
	}
	b.id = id
	// What the table has counted for it goes on: an agent that was in step with an earlier process still is.
	state := r.table.CreditOf(id)
	b.sequence = state.Seq
	b.account.Synced = r.table.TookOver() && state.Seq > 0
	b.granted = false
	if b.key.host == "" {
		r.grantFreely(b)
	}
}

// sizes of rings; each keeps the imbalance of a hundredth as many equal backends under one per cent.
var sizes = [...]int{251, 1021, 4099, 16381, 65521}

// ringBudget leaves some room for rings that change their size.
const ringBudget = ringSlots / 32 * 31

// ringSizes chooses a ring for each VIP by the number of its backends, smaller ones when there are too many VIPs.
func ringSizes(vips []*vip) []int {
	chosen, total := make([]int, len(vips)), 0
	cost := func(size int) int { return (size + 31) / 32 * 32 } // the table gives rings whole chunks
	for i, v := range vips {
		for _, s := range sizes {
			if chosen[i] = s; s >= 100*len(v.members) {
				break
			}
		}
		total += cost(chosen[i])
	}
	for i := len(sizes) - 1; i > 0; i-- {
		for j := range chosen {
			if total > ringBudget && chosen[j] == sizes[i] && sizes[i-1] >= 2*len(vips[j].members) {
				total -= cost(chosen[j]) - cost(sizes[i-1])
				chosen[j] = sizes[i-1]
			}
		}
	}
	return chosen
}

// flush brings marked VIPs into force and says when to come back.
func (r *run) flush() time.Duration {
	now := r.part.now()
	r.flushedAt = now
	wait := sweepEvery
	type ring struct {
		v       *vip
		members []maglev.Member
	}
	var rings []ring
	r.mu.Lock()
	for _, v := range r.vips {
		if v.next != 0 && v.next <= now && !v.dirty {
			v.dirty, v.marked = true, now
		}
		if !v.dirty {
			if v.next != 0 {
				wait = min(wait, v.next-now)
			}
			continue
		}
		if v.flushed != 0 && now-v.flushed < vipGap && !v.urgent {
			wait = min(wait, vipGap-(now-v.flushed))
			continue
		}
		v.dirty, v.urgent = false, false
		if members, changed := r.weigh(v, now); changed {
			rings = append(rings, ring{v, members})
		}
	}
	r.mu.Unlock()
	var failed error
	for _, ring := range rings {
		if err := r.setRing(ring.v, ring.members); err != nil {
			failed = fmt.Errorf("ring of %s: %w", ring.v.Name, err)
		}
	}
	if len(rings) > 0 || failed != nil {
		r.setProblem(failed)
	}
	return max(wait, flushGap)
}

// weigh looks at a VIP's members and says whether its ring must be made anew. r.mu is held.
func (r *run) weigh(v *vip, now time.Duration) ([]maglev.Member, bool) {
	states := r.states[:0]
	for i := range v.members {
		m := &v.members[i]
		r.look(v, m, now)
		m.step = m.state.Step(now, m.slow)
		states = append(states, m.state)
	}
	r.states = states
	weights := make([]uint32, len(states))
	ids := make([]table.BackendID, len(states))
	v.next = steer.Weights(weights, states, now, v.SlowStart)
	for i := range v.members {
		ids[i] = v.members[i].id
	}
	if v.ringed && slices.Equal(weights, v.weights) && slices.Equal(ids, v.ids) {
		return nil, false
	}
	v.weights, v.ids, v.ringed, v.flushed = weights, ids, true, now
	members := make([]maglev.Member, 0, len(weights))
	for i, w := range weights {
		if b := v.members[i].backend; w > 0 && b.id != 0 {
			members = append(members, maglev.Member{Key: b.hash, Weight: w, Value: uint16(b.id)})
		}
	}
	return members, true
}

// setRing makes a VIP's ring and puts it into force.
func (r *run) setRing(v *vip, members []maglev.Member) error {
	if cap(r.ring) < v.size {
		r.ring = make([]table.BackendID, v.size)
	}
	ring := r.ring[:v.size]
	n, err := maglev.Fill(ring, members)
	if err == nil {
		err = r.table.SetRing(v.id, ring[:v.size*min(n, 1)])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		v.ringed, v.dirty = false, true // again after the next pause
		return err
	}
	r.meters.ring.note(r.part.now() - v.marked)
	return nil
}

// markAll has every VIP looked at again.
func (r *run) markAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.vips {
		r.mark(v)
	}
}

// mark has one VIP looked at. r.mu is held.
func (r *run) mark(v *vip) {
	if !v.dirty {
		v.dirty, v.marked = true, r.part.now()
	}
}

// addressOf a host is where its agent speaks from.
func addressOf(a netip.AddrPort) netip.Addr { return a.Addr().Unmap().WithZone("") }
