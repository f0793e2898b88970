package balancer

import (
	"context"
	"net/netip"
	"slices"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/health"
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
	byHost := map[hostComponent]*backend{}
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
					byHost[hostComponent{m.key.host, m.key.component}] = m.backend
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
	r.setProblem(&r.problems.table, nil)
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
		m := member{backend: b, name: bc.name(), weight: bc.Weight}
		if former != nil {
			if i := slices.IndexFunc(former.members, func(o member) bool { return o.backend == b }); i >= 0 {
				o := &former.members[i]
				m.served, m.serving, m.began, m.state = o.served, o.serving, o.began, o.state
			}
		}
		v.members = append(v.members, m)
	}
	return v
}

// share gives each backend the strictest of what its VIPs want, and the one server id.
func share(vips []*vip) {
	seen := map[*backend]bool{}
	for _, v := range vips {
		for i := range v.members {
			b, limit, quicID := v.members[i].backend, v.Backends[i].Limit, v.Backends[i].QUICServerID
			if !seen[b] {
				seen[b] = true
				b.ttl, b.slow, b.limit, b.quicID = v.ReportTTL, v.SlowStart, limit, quicID
				continue
			}
			if quicID != 0 {
				b.quicID = quicID // VIPs of TCP have none
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
		if !r.settledIn && r.table.TookOver() {
			r.inherit(v)
		}
	}
	r.mu.Lock()
	r.vips = vips
	r.mu.Unlock()
	r.flush()
	return r.placeBackends(false)
}

// inherit learns from the ring that an earlier process has left which backends of a VIP served.
func (r *run) inherit(v *vip) {
	places := map[table.BackendID]bool{}
	for _, id := range r.table.Ring(v.id) {
		places[id] = true
	}
	for i := range v.members {
		m := &v.members[i]
		m.served = m.id != 0 && places[m.id]
	}
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
	} else if b.account.Synced {
		b.awaited = r.part.now() + silentFor*b.ttl
	}
}

// addressOf a host is where its agent speaks from.
func addressOf(a netip.AddrPort) netip.Addr { return a.Addr().Unmap().WithZone("") }
