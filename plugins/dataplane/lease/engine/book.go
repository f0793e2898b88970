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
