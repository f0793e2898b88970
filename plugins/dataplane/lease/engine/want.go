package engine

import (
	"net/netip"
	"slices"
	"time"
)

// Want answers a consumer. ok is false for a request older than one already answered: it gets no answer.
func (b *Book) Want(now time.Duration, host string, w Want) (g Grant, ok bool) {
	g = Grant{Seq: w.Seq, Service: w.Service}
	s := b.service(w.Service)
	if s == nil {
		g.Status = Unknown
		return g, true
	}
	s.expire(now)
	c := s.consumers[host]
	if c == nil {
		if len(s.consumers) >= MaxConsumers {
			g.Status = Wait
			return g, true
		}
		c = &consumer{host: host}
		s.consumers[host] = c
	}
	if c.run == w.Run && w.Seq <= c.seq {
		return Grant{}, false
	}
	c.run, c.seq, c.asked, c.short = w.Run, w.Seq, now, false
	g.TTL, g.Addresses = s.TTL, s.Addresses

	s.release(c, w.Held)
	s.doubt(now, c, w.Failed)
	var kept []Lease
	for _, h := range w.Held {
		if l, mine := b.renew(now, s, c, h, w.Held); mine {
			kept = append(kept, l)
		}
	}
	g.Leases = kept
	missing := int(w.Leases)
	for _, l := range kept {
		if !l.Draining {
			missing--
		}
		if l.TTL == 0 {
			g.Status = Wait
		}
	}
	if now < b.o.Recovering {
		if missing > 0 {
			g.Status = Wait
		}
		return g, true
	}
	for ; missing > 0 && len(g.Leases) < MaxLeases; missing-- {
		p := s.choose(now, c, w.Held, int(hash(host, s.Name, string(b.o.Key[:]))%uint64(max(len(s.order), 1))))
		if p == nil {
			s.denied++
			c.short = true
			break
		}
		s.granted++
		g.Leases = append(g.Leases, s.describe(now, s.add(now, c, p, b.o.token(s.Name, p.name, host))))
	}
	return g, true
}

// release frees what the consumer does not use any more: what it does not list it will not use, whatever answers to
// earlier requests are still on their way.
func (s *service) release(c *consumer, held []Held) {
	for _, l := range slices.Clone(c.leases) {
		if !slices.Contains(held, Held{Producer: l.producer.name, Token: l.token}) {
			s.free(l)
		}
	}
}

// renew prolongs one lease that a consumer uses. mine is false when it is another agent's or over.
func (b *Book) renew(now time.Duration, s *service, c *consumer, h Held, held []Held) (_ Lease, mine bool) {
	p := s.producers[h.Producer]
	l := c.lease(h.Producer)
	if l == nil {
		// Not in the book: another agent's, or of an earlier run of this one.
		if now >= b.o.Recovering || h.Token != b.o.token(s.Name, h.Producer, c.host) {
			return Lease{}, false
		}
		if p == nil || p.expires <= now {
			return Lease{Producer: h.Producer, Token: h.Token, Target: Target{Host: netip.IPv4Unspecified()}}, true
		}
		if p.state == Gone {
			return Lease{}, false
		}
		// It is in use already: to renew it adds nothing to what the producer serves, whatever the share is now.
		return s.describe(now, s.add(now, c, p, h.Token)), true
	}
	if l.over {
		return Lease{}, false
	}
	// A share that shrank below what is leased of it sheds leases as they come to be renewed.
	if p.state == Gone || p.expires <= now || l.epoch != p.claim.Epoch || p.active > p.share && !p.keep {
		l.end()
		return Lease{}, false
	}
	// A host that is silent may be dead. If there is another producer it is better; if not, this one may still work.
	if p.silent(now, s.TTL) && s.choose(now, c, held, 0) != nil {
		l.end()
		return Lease{}, false
	}
	s.renewed++
	s.prolong(now, l)
	return s.describe(now, l), true
}

// choose finds the producer with the most room among a bounded number of candidates. Where the search begins differs
// from consumer to consumer and from agent to agent, so that they spread and two agents seldom choose alike.
func (s *service) choose(now time.Duration, c *consumer, held []Held, start int) (best *producer) {
	const candidates = 64
	n := len(s.order)
	var most float64
	seen := 0
	for i := 0; i < n && seen < candidates; i++ {
		p := s.order[(start+i)%n]
		if p.state != Serving || s.Producers[p.name].Drain || p.expires <= now || p.leased >= p.share || p.silent(now, s.TTL) || p.doubted(now) ||
			c.lease(p.name) != nil || c.avoid[p.name] > now ||
			slices.ContainsFunc(held, func(h Held) bool { return h.Producer == p.name }) {
			continue
		}
		seen++
		if room := float64(p.share-p.leased) / float64(p.share); best == nil || room > most {
			best, most = p, room
		}
	}
	return best
}

func (s *service) add(now time.Duration, c *consumer, p *producer, token uint64) *lease {
	l := &lease{producer: p, consumer: c, token: token, epoch: p.claim.Epoch}
	p.leased++
	p.active++
	c.leases = append(c.leases, l)
	l.turn = s.queue.PushBack(l)
	s.prolong(now, l)
	return l
}

func (s *service) prolong(now time.Duration, l *lease) {
	// Never beyond the hold: what was granted from a share ends with it. Never shorter than before: the consumer may
	// already count on that.
	l.expires = max(l.expires, min(now+guard(s.TTL), l.producer.expires))
	s.queue.MoveToBack(l.turn)
}

// guard adds what a consumer's clock may lag within a TTL.
func guard(ttl time.Duration) time.Duration { return ttl + ttl/1000 }

func (s *service) describe(now time.Duration, l *lease) Lease {
	t := l.producer.target
	if t.VNI == 0 {
		t.VNI = s.VNI
	}
	return Lease{
		Producer: l.producer.name, Token: l.token, Epoch: l.epoch, TTL: min(s.TTL, l.expires-now),
		Draining: l.producer.state == Draining || s.Producers[l.producer.name].Drain, Target: t,
	}
}
