package failover

import (
	"net/netip"
	"time"
)

// host is what a box knows of a host.
type host struct {
	name  string
	vnis  []*vni // of which it has a candidate, by id
	heard bool   // since this box runs
	last  time.Duration

	incarnation, number, term uint64
	unled                     time.Duration
	underlay                  netip.Addr

	want, have uint32
	entries    []Entry       // of version want
	reported   bool          // has said what it knows, in this term
	proved     time.Duration // when the last reply was sent after which it still followed this term
	grantEnd   time.Duration // no lease granted by this box lasts longer
}

func (e *Engine) host(name string) *host {
	h := e.hosts[name]
	if h == nil {
		h = &host{name: name}
		e.hosts[name] = h
	}
	return h
}

// forget drops what an agent's earlier process, or an earlier term, said of its entries. Its lease is not forgotten.
func (h *host) forget() {
	h.have, h.proved = 0, 0
	for _, v := range h.vnis {
		for _, c := range v.candidates {
			if c.host == h {
				c.healthy = false
			}
		}
	}
}

func (e *Engine) alive(now time.Duration, h *host) bool {
	return h.heard && now-h.last <= e.o.silence()
}

// observe takes the states of a host's entries, which are of the version it was asked for.
func (e *Engine) observe(now time.Duration, h *host, states []EntryState) {
	for i, s := range states {
		v := e.vnis[h.entries[i].Interface]
		if v == nil {
			continue
		}
		k := v.candidate(Candidate{h.name, h.entries[i].Instance})
		if k == nobody {
			continue
		}
		c := v.candidates[k]
		if c.healthy && !s.Healthy {
			c.fail(now, e.o)
		}
		if !c.healthy && s.Healthy {
			c.since = now
		}
		c.healthy, c.attached = s.Healthy, s.Attached
	}
}

// failed counts a failure against all of a host's candidates.
func (e *Engine) failed(now time.Duration, h *host) {
	for _, v := range h.vnis {
		for _, c := range v.candidates {
			if c.host == h {
				c.fail(now, e.o)
			}
		}
	}
}
