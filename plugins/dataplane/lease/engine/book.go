package engine

import (
	"container/list"
	"net/netip"
	"slices"
	"time"
)

// Bounds of a book. What exceeds them is refused, not queued.
const (
	MaxServices  = 64
	MaxProducers = 1024  // of one service
	MaxConsumers = 65536 // of one service
)

// Service is what the operator says of one.
type Service struct {
	Name      string
	Addresses []netip.Addr // one of each family at most
	VNI       uint32       // of producers that name none
	TTL       time.Duration
	// Producers, when not empty, are the only ones allowed, each from the hosts listed and up to a quota.
	Producers map[string]Allowed
}

// Allowed limits a producer.
type Allowed struct {
	Hosts []string // empty: any enrolled host
	Quota uint32   // 0: what the host says
	Drain bool     // as if the host had said Draining
}

// HoldTTL is how long an agent holds a share of a service's producers: long enough that leases have their full TTL
// although holds are renewed only three times in one.
func (s Service) HoldTTL() time.Duration { return 2 * s.TTL }

// BookOptions make a Book.
type BookOptions struct {
	Run uint64   // random, of this process
	Key [32]byte // of tokens; the same as before the restart
	// Recovering: until this moment leases of an earlier run may be in use. 0 for a new agent.
	Recovering time.Duration
	// Epochs are those made durable by earlier runs.
	Epochs map[ProducerKey]Claim
}

// ProducerKey names a producer.
type ProducerKey struct{ Service, Producer string }

// Claim is who has a producer.
type Claim struct {
	Epoch uint64
	Host  string
}

// Book is a leasing agent's memory of who leases what.
type Book struct {
	o        BookOptions
	services map[string]*service
	epochs   map[ProducerKey]Claim // durable
	unsaved  map[ProducerKey]Claim // asked for, not durable yet
}

type service struct {
	Service
	removed   bool
	producers map[string]*producer
	order     []*producer // sorted by name: where a consumer's search begins does not depend on the map
	consumers map[string]*consumer
	queue     list.List // of *lease, the oldest renewal first
	denied    uint64    // leases wanted and not to be had
	granted   uint64
	renewed   uint64
}

type producer struct {
	name    string
	claim   Claim
	run     uint64
	seq     uint64
	share   uint32
	keep    bool
	state   State
	target  Target
	expires time.Duration // of the hold
	heard   time.Duration // when its host last said anything
	told    bool          // its consumers have been nudged because it is silent
	leased  uint32        // leases that consumers may be using, of any epoch
	active  uint32        // those of them that are renewed
	doubts  map[string]time.Duration
}

type consumer struct {
	host     string
	run, seq uint64
	asked    time.Duration
	leases   []*lease
	avoid    map[string]time.Duration // producers that did not answer it
	short    bool                     // it got fewer than it wanted
}

type lease struct {
	producer *producer
	consumer *consumer
	token    uint64
	epoch    uint64
	expires  time.Duration
	over     bool // not renewed any more; counts until the consumer shows that it knows, or expires
	turn     *list.Element
}

// NewBook makes a book without services.
func NewBook(o BookOptions) *Book {
	b := &Book{o: o, services: map[string]*service{}, epochs: map[ProducerKey]Claim{}, unsaved: map[ProducerKey]Claim{}}
	for k, c := range o.Epochs {
		b.epochs[k] = c
	}
	return b
}

// Configure sets the services. Those that stay keep their leases; what a removed one leased runs out, and is
// remembered until then in case it comes back.
func (b *Book) Configure(services []Service) {
	for _, have := range b.services {
		have.removed = true
	}
	for _, s := range services {
		if have := b.services[s.Name]; have != nil {
			have.Service, have.removed = s, false
			continue
		}
		b.services[s.Name] = &service{Service: s, producers: map[string]*producer{}, consumers: map[string]*consumer{}}
	}
}

func (b *Book) service(name string) *service {
	if s := b.services[name]; s != nil && !s.removed {
		return s
	}
	return nil
}

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

// end stops renewing a lease. It counts against the share until the consumer shows that it has stopped, or expires.
func (l *lease) end() {
	if !l.over {
		l.over = true
		l.producer.active--
	}
}

func (s *service) free(l *lease) {
	l.end()
	l.producer.leased--
	s.queue.Remove(l.turn)
	c := l.consumer
	c.leases = slices.DeleteFunc(c.leases, func(have *lease) bool { return have == l })
}

// expire frees what has run out. Renewals move leases to the queue's end, so it stops at the first that has not; one
// that was cut short by its hold and stands behind others is only freed later, which is safe.
func (s *service) expire(now time.Duration) {
	for e := s.queue.Front(); e != nil; e = s.queue.Front() {
		l := e.Value.(*lease)
		if l.expires > now {
			return
		}
		s.free(l)
	}
}

// Tick frees what has run out and forgets consumers and producers of which nothing is left. It lists, by service, the
// consumers that should ask now because a producer of theirs has fallen silent. Once in a TTL is enough.
func (b *Book) Tick(now time.Duration) (nudge map[string][]string) {
	for name, s := range b.services {
		s.expire(now)
		if s.removed && s.queue.Len() == 0 {
			delete(b.services, name)
			continue
		}
		for host, c := range s.consumers {
			for p, until := range c.avoid {
				if until <= now {
					delete(c.avoid, p)
				}
			}
			if len(c.leases) == 0 && now >= c.asked+s.TTL {
				delete(s.consumers, host)
			}
		}
		for name, p := range s.producers {
			if p.silent(now, s.TTL) && !p.told && p.expires > now {
				p.told = true
				if nudge == nil {
					nudge = map[string][]string{}
				}
				nudge[s.Name] = append(nudge[s.Name], s.consumersOf(p)...)
			}
			if p.leased == 0 && p.expires+s.HoldTTL() <= now {
				delete(s.producers, name)
				s.order = slices.DeleteFunc(s.order, func(have *producer) bool { return have == p })
			}
		}
	}
	return nudge
}

func (c *consumer) lease(producer string) *lease {
	for _, l := range c.leases {
		if l.producer.name == producer {
			return l
		}
	}
	return nil
}
