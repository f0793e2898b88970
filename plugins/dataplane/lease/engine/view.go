package engine

import (
	"cmp"
	"slices"
	"time"
)

// ServiceView is what an agent knows of a service.
type ServiceView struct {
	Service
	Leased, Share    uint64 // of the shares this agent holds at the moment
	Consumers        int
	Granted, Renewed uint64 // since the process began
	Denied           uint64 // wanted and not to be had
	Producers        []ProducerView
	Recovering       bool
}

// ProducerView is what an agent knows of a producer.
type ProducerView struct {
	Name, Host    string
	Epoch         uint64
	State         State
	Target        Target
	Share, Leased uint32
	Held          time.Duration // what is left of the hold; 0 or less: not held
	Doubted       bool
}

// LeaseView is one lease that may be in use.
type LeaseView struct {
	Service, Producer, Consumer string
	Epoch                       uint64
	Left                        time.Duration
	Over                        bool // ended; it counts until the consumer shows that it has stopped
}

// Services lists what is known, by name.
func (b *Book) Services(now time.Duration) (out []ServiceView) {
	for _, s := range b.services {
		if s.removed {
			continue
		}
		s.expire(now)
		v := ServiceView{
			Service: s.Service, Consumers: len(s.consumers), Granted: s.granted, Renewed: s.renewed, Denied: s.denied,
			Leased: uint64(s.queue.Len()), Recovering: now < b.o.Recovering,
		}
		for _, p := range s.order {
			held := max(0, p.expires-now)
			if held > 0 {
				v.Share += uint64(p.share)
			}
			v.Producers = append(v.Producers, ProducerView{
				Name: p.name, Host: p.claim.Host, Epoch: p.claim.Epoch, State: p.state, Target: p.target,
				Share: p.share, Leased: p.leased, Held: held, Doubted: p.doubted(now),
			})
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(x, y ServiceView) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// Leases lists at most limit leases of a service, of all when it is empty, those that run out first first.
func (b *Book) Leases(now time.Duration, service string, limit int) (out []LeaseView) {
	for _, s := range b.services {
		if service != "" && s.Name != service {
			continue
		}
		s.expire(now)
		n := 0
		for e := s.queue.Front(); e != nil && n < limit; e, n = e.Next(), n+1 {
			l := e.Value.(*lease)
			out = append(out, LeaseView{
				Service: s.Name, Producer: l.producer.name, Consumer: l.consumer.host, Epoch: l.epoch, Left: l.expires - now, Over: l.over,
			})
		}
	}
	slices.SortStableFunc(out, func(x, y LeaseView) int {
		return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.Left, y.Left))
	})
	return out[:min(len(out), limit)]
}
