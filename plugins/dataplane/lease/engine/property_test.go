package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// world runs agents, one producer's host and consumers over a network that loses, delays, repeats and reorders, with
// clocks of their own and restarts, in simulated time.
type world struct {
	rng       *rand.Rand
	now       time.Duration
	ttl       time.Duration
	quota     int
	loss      float64
	slow      time.Duration // the longest delay
	agents    []*simAgent
	producer  *simProducer
	consumers []*simConsumer
	flight    []packet
	mutant    mutant
	runs      uint64

	nextTrouble time.Duration
}

type clock struct{ offset time.Duration }

func (c clock) read(w *world) time.Duration { return w.now + c.offset }

type simAgent struct {
	clock
	book *Book
	key  [32]byte
	life int // grows with every restart: what was on its way to an earlier life is not delivered
	cut  time.Duration
}

type simProducer struct {
	clock
	shares *Shares
	life   int
	due    time.Duration
}

type simConsumer struct {
	clock
	host string
	set  *Set
	due  time.Duration
	life int
	cut  time.Duration
}

type packet struct {
	at    time.Duration
	valid func() bool
	do    func()
}

func newWorld(seed uint64, quota, agents, consumers, leases int, m mutant) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), ttl: time.Second, quota: quota, mutant: m, loss: 0.1, slow: 400 * time.Millisecond}
	for range agents {
		a := &simAgent{}
		w.rng.Int64()
		a.key[0] = byte(len(w.agents))
		w.agents = append(w.agents, a)
		w.startAgent(a, true)
	}
	w.producer = &simProducer{}
	w.startProducer()
	for i := range consumers {
		c := &simConsumer{host: fmt.Sprintf("c%d", i)}
		w.consumers = append(w.consumers, c)
		w.startConsumer(c, leases)
	}
	return w
}

func (w *world) run() uint64 { w.runs++; return w.runs }

func (w *world) startAgent(a *simAgent, fresh bool) {
	a.offset = time.Duration(w.rng.Int64N(int64(time.Hour)))
	a.life++
	o := BookOptions{Run: w.run(), Key: a.key}
	if !fresh && w.mutant != mutantForget {
		o.Recovering = a.read(w) + w.ttl + w.ttl/100
	}
	if a.book != nil {
		o.Epochs = a.book.epochs
	}
	a.book = NewBook(o)
	a.book.Configure([]Service{{Name: "s", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, VNI: 1, TTL: w.ttl}})
}

func (w *world) startProducer() {
	p := w.producer
	p.offset = time.Duration(w.rng.Int64N(int64(time.Hour)))
	p.life++
	p.due = w.now
	p.shares = NewShares(SharesOptions{
		Run: w.run(), Host: "h", Service: "s", Producer: "p", Quota: uint32(w.quota), Agents: len(w.agents),
		Target: Target{Host: netip.MustParseAddr("10.0.0.1")},
	})
	p.shares.mutant = w.mutant
}

func (w *world) startConsumer(c *simConsumer, leases int) {
	c.offset = time.Duration(w.rng.Int64N(int64(time.Hour)))
	c.life++
	c.due = w.now
	c.set = NewSet(SetOptions{Run: w.run(), Host: c.host, Service: "s", Leases: leases, Agents: len(w.agents), Jitter: w.rng.Float64})
	c.set.mutant = w.mutant
}

// send delivers some time, perhaps twice, perhaps never.
func (w *world) send(a *simAgent, valid func() bool, do func()) {
	if a.cut > w.now {
		return
	}
	life := a.life
	for copies := 1; copies > 0; copies-- {
		if w.rng.Float64() < w.loss {
			continue
		}
		if w.rng.Float64() < 0.05 {
			copies++
		}
		delay := time.Duration(w.rng.Int64N(int64(5 * time.Millisecond)))
		if w.rng.Float64() < 0.2 {
			delay = time.Duration(w.rng.Int64N(int64(w.slow)))
		}
		w.flight = append(w.flight, packet{at: w.now + delay, valid: func() bool { return a.life == life && valid() }, do: do})
	}
}

// step moves time to the next thing that happens.
func (w *world) step() {
	next := min(w.now+50*time.Millisecond, w.producer.due)
	for _, c := range w.consumers {
		next = min(next, c.due)
	}
	for _, p := range w.flight {
		next = min(next, p.at)
	}
	w.now = max(next, w.now+100*time.Microsecond)
	rest := w.flight[:0:0]
	due := w.flight
	w.flight = nil
	for _, p := range due {
		switch {
		case p.at > w.now:
			rest = append(rest, p)
		case p.valid():
			p.do()
		}
	}
	w.flight = append(w.flight, rest...)
	w.stepProducer()
	for _, c := range w.consumers {
		w.stepConsumer(c)
	}
}

func (w *world) stepProducer() {
	p := w.producer
	if p.due > w.now {
		return
	}
	offers, next := p.shares.Step(p.read(w))
	p.due = next - p.offset
	life := p.life
	for _, o := range offers {
		a := w.agents[o.Agent]
		alive := func() bool { return p.life == life }
		w.send(a, alive, func() {
			ack, _, ok := a.book.Hold(a.read(w), "h", o.Hold)
			for k, c := range a.book.Unsaved() {
				a.book.Saved(k, c)
			}
			if ok {
				w.send(a, alive, func() { p.shares.Acked(p.read(w), o.Agent, ack); p.due = w.now })
			}
		})
	}
}

func (w *world) stepConsumer(c *simConsumer) {
	if c.due > w.now {
		return
	}
	requests, next := c.set.Step(c.read(w))
	c.due = next - c.offset
	life := c.life
	for _, r := range requests {
		a := w.agents[r.Agent]
		alive := func() bool { return c.life == life && c.cut <= w.now }
		w.send(a, alive, func() {
			if g, ok := a.book.Want(a.read(w), c.host, r.Want); ok {
				w.send(a, alive, func() { c.set.Granted(c.read(w), r.Agent, g); c.due = w.now })
			}
		})
	}
}

// using counts the consumers that may send to the producer at this moment.
func (w *world) using() (n int) {
	for _, c := range w.consumers {
		for _, u := range c.set.Leases() {
			if u.Expires > c.read(w) {
				n++
			}
		}
	}
	return n
}

// trouble does one random thing now and then.
func (w *world) trouble(leases int) {
	if w.now < w.nextTrouble {
		return
	}
	w.nextTrouble = w.now + time.Duration(w.rng.Int64N(int64(500*time.Millisecond)))
	switch w.rng.IntN(10) {
	case 0, 1:
		w.startAgent(w.agents[w.rng.IntN(len(w.agents))], false)
	case 2:
		w.startProducer()
	case 3, 4:
		a := w.agents[w.rng.IntN(len(w.agents))]
		a.cut = w.now + time.Duration(w.rng.Int64N(int64(6*w.ttl)))
	case 5:
		// A consumer's process ends: what it used stays with the agents until it runs out.
		w.startConsumer(w.consumers[w.rng.IntN(len(w.consumers))], leases)
	case 6, 7, 8:
		w.consumers[w.rng.IntN(len(w.consumers))].cut = w.now + time.Duration(w.rng.Int64N(int64(3*w.ttl)))
	case 9:
		w.consumers[w.rng.IntN(len(w.consumers))].set.Failed(0, "p")
	}
}

// drive runs the world and says how often the quota was exceeded, and how many leases stand after a calm end.
func (w *world) drive(leases int, span time.Duration) (exceeded, standing int) {
	for w.now < span {
		w.trouble(leases)
		w.step()
		if w.using() > w.quota {
			exceeded++
		}
	}
	w.loss, w.slow = 0, 5*time.Millisecond
	for w.now < span+20*w.ttl {
		w.step()
		if w.now > span+19*w.ttl { // a lease that is given back is free until somebody asks for it
			standing = max(standing, w.using())
		}
		if w.using() > w.quota {
			exceeded++
		}
	}
	return exceeded, standing
}

var (
	histories = flag.Int("histories", 50, "histories of TestHistories")
	firstSeed = flag.Uint64("seed", 1, "of the first history")
)

// TestHistories plays histories with everything in them: processes that end, partitions, messages that are lost, late,
// twice and out of order. make soak SYSTEM=lease plays many.
func TestHistories(t *testing.T) {
	lost := 0
	for i := range *histories {
		seed := *firstSeed + uint64(i)
		rng := rand.New(rand.NewPCG(seed, 2))
		quota, agents, consumers := 1+rng.IntN(8), 1+rng.IntN(3), 1+rng.IntN(8)
		exceeded, standing := newWorld(seed, quota, agents, consumers, 1, mutantNone).drive(1, 20*time.Second)
		if want := min(quota, consumers); exceeded > 0 || standing < want {
			t.Errorf("seed %d: quota %d, %d agents, %d consumers: exceeded at %d moments, %d leases at the end, want %d",
				seed, quota, agents, consumers, exceeded, standing, want)
			lost++
		}
	}
	t.Logf("soak lease.history %d tried, %d lost", *histories, lost)
}

// TestQuotaIsNeverExceeded: whatever happens, no more consumers use a producer than its quota; and when it is over,
// the whole quota is in use or every consumer has its lease.
func TestQuotaIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		quota := rapid.IntRange(1, 8).Draw(rt, "quota")
		agents := rapid.IntRange(1, 3).Draw(rt, "agents")
		consumers := rapid.IntRange(1, 8).Draw(rt, "consumers")
		w := newWorld(rapid.Uint64().Draw(rt, "seed"), quota, agents, consumers, 1, mutantNone)
		exceeded, standing := w.drive(1, 20*time.Second)
		if exceeded > 0 {
			rt.Fatalf("quota %d exceeded at %d moments", quota, exceeded)
		}
		if want := min(quota, consumers); standing < want {
			rt.Fatalf("%d leases stand at the end, want %d", standing, want)
		}
	})
}

// TestMutantsExceedTheQuota proves that the property would notice. The mutant that counts from the receipt is caught by
// testdata/scripts/expiry_mutant.txt too.
func TestMutantsExceedTheQuota(t *testing.T) {
	for _, m := range []mutant{mutantReceipt, mutantOverlap, mutantForget, mutantAnyReply} {
		found := false
		for seed := uint64(0); seed < 2000 && !found; seed++ {
			exceeded, _ := newWorld(seed, 3, 2, 6, 1, m).drive(1, 20*time.Second)
			found = exceeded > 0
		}
		if !found {
			t.Errorf("mutant %d was not caught", m)
		}
	}
}
