package engine

import (
	"math"
	"slices"
	"strings"
	"time"
)

// Hold answers a producer's host. nudge lists the consumers that should ask now: they lost their lease
// by it, or there is room for what they wanted.
// ok is false for what is older than what was answered already.
func (b *Book) Hold(now time.Duration, host string, h Hold) (a Ack, nudge []string, ok bool) {
	a = Ack{Seq: h.Seq, Service: h.Service, Producer: h.Producer}
	s := b.service(h.Service)
	if s == nil {
		a.Status = Unknown
		return a, nil, true
	}
	s.expire(now)
	key := ProducerKey{h.Service, h.Producer}
	a.TTL, a.Stamp = s.HoldTTL(), Stamp{Run: b.o.Run, Expires: now + s.HoldTTL()}
	allowed, listed := s.Producers[h.Producer]
	if len(s.Producers) > 0 && !listed || len(allowed.Hosts) > 0 && !slices.Contains(allowed.Hosts, host) {
		a.Status = Refused
		return a, nil, true
	}
	a.Quota, a.VNI = allowed.Quota, s.VNI
	claim := b.epochs[key]
	a.Highest, a.Holder = claim.Epoch, claim.Host
	p := s.producers[h.Producer]
	if p != nil {
		a.Share, a.Leased = p.share, p.leased
		if p.expires <= now {
			a.Share = 0
		}
	}
	if now < b.o.Recovering {
		a.Leased = math.MaxUint32 // not known: it may be anything
	}
	if h.Epoch == 0 {
		return a, nil, true
	}
	if offered := (Claim{Epoch: h.Epoch, Host: host}); offered != claim {
		a.Status = b.claim(key, offered)
		return a, nil, true
	}
	if p == nil {
		if p = s.addProducer(h.Producer); p == nil {
			a.Status = Refused
			return a, nil, true
		}
	}
	return b.renewHold(now, s, p, claim, h, a)
}

// claim answers a host with another claim than the one that is known.
func (b *Book) claim(key ProducerKey, offered Claim) Status {
	if !offered.over(b.epochs[key]) {
		return Superseded
	}
	// A new epoch answers only once it is durable: this agent may not forget it and believe an older host.
	if have, waits := b.unsaved[key]; !waits || offered.over(have) {
		if !waits && len(b.epochs)+len(b.unsaved) >= MaxServices*MaxProducers {
			return Refused
		}
		b.unsaved[key] = offered
	}
	return Wait
}

// addProducer makes a producer, or nil when there is no room for it.
func (s *service) addProducer(name string) *producer {
	if len(s.order) >= MaxProducers {
		return nil
	}
	p := &producer{name: name, doubts: map[string]time.Duration{}}
	s.producers[name] = p
	at, _ := slices.BinarySearchFunc(s.order, name, func(have *producer, name string) int { return strings.Compare(have.name, name) })
	s.order = slices.Insert(s.order, at, p)
	return p
}

// renewHold takes what the host that has the producer under this claim says of it, and completes the answer.
func (b *Book) renewHold(now time.Duration, s *service, p *producer, claim Claim, h Hold, a Ack) (_ Ack, nudge []string, ok bool) {
	if p.claim == claim && p.run == h.Run && h.Seq <= p.seq {
		return Ack{}, nil, false
	}
	room := p.room(now)
	taken := p.claim != claim
	if taken {
		p.expires = 0 // the hold was the other host's
	}
	p.claim, p.run, p.seq, p.share, p.keep, p.target = claim, h.Run, h.Seq, h.Share, h.Keep, h.Target
	ended := taken || h.State != p.state && h.State == Gone
	p.state, p.heard, p.told = h.State, now, false
	if h.Echo.Run == b.o.Run {
		p.expires = max(p.expires, min(h.Echo.Expires, now+s.HoldTTL()))
	}
	if p.expires > now {
		a.Share = h.Share
	}
	if ended {
		nudge = s.endAll(p)
	}
	if more := p.room(now); more > room && now >= b.o.Recovering {
		nudge = append(nudge, s.waiting(more)...)
	}
	if now >= b.o.Recovering {
		a.Leased = p.leased
	}
	return a, nudge, true
}

// room is how many leases a producer could still have from here.
func (p *producer) room(now time.Duration) int {
	if p.state != Serving || p.expires <= now || p.leased >= p.share {
		return 0
	}
	return int(p.share - p.leased)
}

// waiting lists at most n consumers that want more than they got.
func (s *service) waiting(n int) (hosts []string) {
	for host, c := range s.consumers {
		if len(hosts) == n {
			break
		}
		if c.short {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// over says whether a claim takes the producer from another one: the higher epoch, and among hosts that took the same
// one at different agents the lower name, everywhere alike.
func (c Claim) over(have Claim) bool {
	if c.Epoch != have.Epoch {
		return c.Epoch > have.Epoch
	}
	return c.Host < have.Host
}

// endAll ends all leases of a producer and lists who had one.
func (s *service) endAll(p *producer) (hosts []string) {
	hosts = s.consumersOf(p)
	for e := s.queue.Front(); e != nil; e = e.Next() {
		if l := e.Value.(*lease); l.producer == p && !l.over {
			l.end()
		}
	}
	return hosts
}

// consumersOf lists who has a lease of a producer.
func (s *service) consumersOf(p *producer) (hosts []string) {
	for e := s.queue.Front(); e != nil; e = e.Next() {
		if l := e.Value.(*lease); l.producer == p && !l.over {
			hosts = append(hosts, l.consumer.host)
		}
	}
	return hosts
}

// silent says that a producer's host has missed so many Holds that it may be dead. An outage of this agent that leases
// outlive is shorter.
func (p *producer) silent(now, ttl time.Duration) bool { return now >= p.heard+ttl }

// Unsaved lists the claims that must be made durable before their hosts get an answer.
func (b *Book) Unsaved() map[ProducerKey]Claim {
	out := make(map[ProducerKey]Claim, len(b.unsaved))
	for k, c := range b.unsaved {
		out[k] = c
	}
	return out
}

// Saved says that a claim is durable.
func (b *Book) Saved(key ProducerKey, c Claim) {
	if c.over(b.epochs[key]) {
		b.epochs[key] = c
	}
	if b.unsaved[key] == c {
		delete(b.unsaved, key)
	}
}

// doubt notes that producers do not answer a consumer. It avoids them for a TTL. One that two consumers doubt gets no
// new consumer as long: one alone may be cut off itself.
func (s *service) doubt(now time.Duration, c *consumer, failed []string) {
	for _, name := range failed {
		p := s.producers[name]
		if p == nil {
			continue
		}
		c.shun(name, now+s.TTL)
		if len(p.doubts) < 2 {
			p.doubts[c.host] = now + s.TTL
		}
	}
}

func (p *producer) doubted(now time.Duration) bool {
	for host, until := range p.doubts {
		if until <= now {
			delete(p.doubts, host)
		}
	}
	return len(p.doubts) >= 2
}

// Revoke ends leases of a service: those of one producer, of one consumer's host, or of both; an empty name means any.
// It returns how many, and whom to nudge. A consumer gets another producer if there is one.
func (b *Book) Revoke(now time.Duration, serviceName, producer, host string) (ended int, nudge []string) {
	s := b.service(serviceName)
	if s == nil {
		return 0, nil
	}
	for e := s.queue.Front(); e != nil; e = e.Next() {
		l := e.Value.(*lease)
		if l.over || producer != "" && l.producer.name != producer || host != "" && l.consumer.host != host {
			continue
		}
		l.end()
		ended++
		if c := l.consumer; len(nudge) == 0 || nudge[len(nudge)-1] != c.host {
			nudge = append(nudge, c.host)
		}
		l.consumer.shun(l.producer.name, now+s.TTL)
	}
	return ended, nudge
}

func (c *consumer) shun(producer string, until time.Duration) {
	if c.avoid == nil {
		c.avoid = map[string]time.Duration{}
	}
	if len(c.avoid) < MaxLeases {
		c.avoid[producer] = until
	}
}
