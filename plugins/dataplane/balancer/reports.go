package balancer

import (
	"errors"
	"math"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/credit"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/steer"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

const (
	// grantFor is how long a backend with a limit and without an agent may be sent connections without this
	// process: a plugin that restarts or is upgraded must not stop the traffic.
	grantFor = 10 * time.Minute
	// dryLooks without credit make a backend full for its ring.
	dryLooks = 2
)

// reported takes a host's datagram. It runs in the control channel's reader.
func (p *Part) reported(host string, _ uint64, payload []byte) []byte {
	r := p.running()
	if r == nil {
		return nil
	}
	began := time.Now()
	m, err := report.Parse(payload)
	if err != nil {
		r.count(&r.meters.malformed)
		return nil
	}
	reply := report.Reply{Incarnation: r.life, Sequence: m.Sequence, TTL: report.MaxTTL}
	for _, c := range m.Components {
		d, ttl, ok := r.report(host, &m, c)
		if !ok {
			continue
		}
		if ttl > 0 {
			reply.TTL = min(reply.TTL, ttl)
		}
		reply.Components = append(reply.Components, d)
	}
	if len(reply.Components) == 0 {
		return nil
	}
	if reply.TTL == report.MaxTTL {
		reply.TTL = 0 // nothing of this host is used; it need not hurry
	}
	out, err := reply.Append(nil)
	if err != nil {
		return nil
	}
	r.mu.Lock()
	r.meters.effect.note(time.Since(began))
	r.mu.Unlock()
	return out
}

// report judges one entry and brings it into force. ok is false when there is nothing to say to it.
func (r *run) report(host string, m *report.Report, c report.Component) (d report.Dispatched, ttl time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.Name = c.Name
	b := r.byHost[hostComponent{host, c.Name}]
	if b == nil {
		d.Status = report.Unused
		return d, 0, true
	}
	if b.id == 0 {
		return d, 0, false // its address is not known yet
	}
	now := r.part.now()
	before := r.table.CreditOf(b.id)
	grant, verdict := b.account.Take(now, m, c, r.life, before.Dispatched)
	switch verdict {
	case credit.Refuse:
		r.meters.refused++
		return d, 0, false
	case credit.Rebase:
		r.meters.rebased++
		d.Status, d.Dispatched = report.Rebase, before.Dispatched
		return d, 0, true
	}
	r.meters.applied++
	if err := r.grant(b, grant, now); err != nil {
		r.meters.refused++
		return d, 0, false
	}
	// Read after the grant is in force: what was dispatched meanwhile is in it.
	d.Status, d.Dispatched = report.Applied, r.table.CreditOf(b.id).Dispatched
	return d, b.ttl, true
}

// grant brings an agent's word into force. r.mu is held.
func (r *run) grant(b *backend, g credit.Grant, now time.Duration) error {
	limit := g.Limit
	if b.limit != 0 {
		limit = min(limit, b.limit)
	}
	limit = steer.Scale(limit, b.scale())
	b.sequence++
	err := r.table.SetCredit(b.id, table.Credit{Seq: b.sequence, Limit: limit, Accepted: g.Accepted, TTL: b.ttl, Absolute: true})
	if err != nil {
		return err
	}
	b.allowed, b.hinted, b.granted, b.dry = limit, false, false, 0
	r.setRoom(b, limit > 0, now)
	return nil
}

// setRoom notes whether a backend has room. r.mu is held.
func (r *run) setRoom(b *backend, room bool, now time.Duration) {
	if b.room == room {
		return
	}
	if b.room = room; !room {
		b.lost = now // its rings follow when it has been so for a while
		return
	}
	if now-b.lost >= fullFor {
		r.markUsers(b)
	}
}

// scale is the step of the slow start.
func (b *backend) scale() uint32 {
	if b.slow == 0 || b.step == 0 {
		return steer.Steps
	}
	return b.step
}

// markUsers marks the VIPs of a backend and wakes the worker. r.mu is held.
func (r *run) markUsers(b *backend) {
	for _, v := range r.vips {
		for i := range v.members {
			if v.members[i].backend == b {
				r.mark(v)
				v.urgent = true
				break
			}
		}
	}
	r.hurry()
}

// grantFreely lets connections go to a backend that no agent speaks for. r.mu is held.
func (r *run) grantFreely(b *backend) {
	if b.id == 0 {
		return
	}
	c := table.Credit{TTL: grantFor, Absolute: true, Unlimited: b.limit == 0}
	if b.limit != 0 {
		// As many as are missing, beyond what was dispatched before the open ones were counted.
		c.Limit, c.Accepted = b.limit-min(b.limit, b.open), b.counted
	}
	b.sequence++
	c.Seq = b.sequence
	if err := r.table.SetCredit(b.id, c); err != nil && !errors.Is(err, table.ErrStale) {
		r.o.Log.Warn("credit was not set", "backend", b.key.host, "address", b.address, "err", err)
		return
	}
	b.granted = true
}

// watchCredit asks the hosts whose credit runs low for a report, and takes backends that are dry out of their rings.
func (r *run) watchCredit() {
	now := r.part.now()
	var hints []string
	r.mu.Lock()
	for _, b := range r.backends {
		if b.id == 0 || b.key.host == "" || !b.reporting(now) {
			continue
		}
		if !b.account.Fresh(now, b.ttl) {
			r.setRoom(b, false, now)
			continue
		}
		allowed := int64(b.allowed)
		left := r.table.CreditOf(b.id).Left
		if allowed > 0 && left <= allowed/2 && !b.hinted {
			b.hinted = true
			hints = append(hints, b.key.host)
		}
		if left > 0 {
			b.dry = 0
			continue
		}
		if b.dry++; b.dry >= dryLooks {
			r.setRoom(b, false, now)
		}
	}
	r.mu.Unlock()
	for _, host := range hints {
		// A host that is not there, or a hint that is lost, costs nothing: the next report is due anyway.
		_ = r.o.Control.Send(host, control.KindCapacity, []byte{report.Version})
	}
}

// limitOpen says what backends without an agent may be sent: those with a limit, each time anew, as many as there are
// fewer open connections; the others everything.
func (r *run) limitOpen() {
	now := r.part.now()
	limited := map[table.BackendID]uint32{}
	r.mu.Lock()
	for _, b := range r.backends {
		if b.id != 0 && b.limit != 0 && r.free(b, now) {
			limited[b.id] = 0
			b.counted = r.table.CreditOf(b.id).Dispatched
		}
	}
	r.mu.Unlock()
	if len(limited) > 0 {
		for f := range r.table.Flows() {
			if n, ok := limited[f.Backend]; ok && n < math.MaxUint32 {
				limited[f.Backend] = n + 1
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.backends {
		if b.id == 0 || !r.free(b, now) {
			continue
		}
		if n, ok := limited[b.id]; ok {
			b.open = n
			r.grantFreely(b)
		} else if !b.granted {
			r.grantFreely(b)
		}
	}
}

// free says whether the balancer itself decides about a backend: no agent speaks for it or has lately, and none is expected
// or health checks stand in for it. r.mu is held.
func (r *run) free(b *backend, now time.Duration) bool {
	if b.reporting(now) || now < b.awaited {
		return false
	}
	if b.key.host == "" {
		return true
	}
	for _, v := range r.vips {
		for i := range v.members {
			if v.members[i].backend == b && v.members[i].checked {
				return true
			}
		}
	}
	return false
}
