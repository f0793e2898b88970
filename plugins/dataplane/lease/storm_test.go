package lease

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
)

const (
	stormConsumers = 10_000
	stormProducers = 100
	// Some more than are wanted: of exactly as many the last two could be one producer's, and a consumer wants two producers.
	stormQuota = 2*stormConsumers/stormProducers + 4
	// stormPatience bounds how long a consumer asks: it waits between tries.
	stormPatience = 20 * time.Second
)

// crowd is consumers of one service at several agents, and its producers.
type crowd struct {
	t     testing.TB
	parts []*Part
	// exchange carries a message of a host to an agent and returns the answer.
	exchange func(host, agent int, message []byte) ([]byte, error)
	sets     []*engine.Set
}

func stormName(i int) string { return fmt.Sprintf("host-%d", i) }

func newCrowd(t testing.TB, parts []*Part) *crowd {
	c := &crowd{t: t, parts: parts}
	for i := range stormConsumers {
		c.sets = append(c.sets, engine.NewSet(engine.SetOptions{
			Run: 1, Host: stormName(i), Service: "web", Leases: 2, Agents: len(parts), Jitter: rand.Float64,
		}))
	}
	return c
}

// nobody is a channel without hosts.
type nobody struct{}

func (nobody) HandleDatagram(uint8, func(string, uint64, []byte) []byte) {}
func (nobody) Send(string, uint8, []byte) error                          { return control.ErrNotJoined }

func stormPart(t testing.TB, ttl time.Duration, c Control) *Part {
	p := New(Options{State: controltest.NewMemoryState(), Control: c})
	check(t, p.Start(t.Context(), Desired{Services: []engine.Service{{
		Name: "web", Addresses: []netip.Addr{netip.MustParseAddr(service4)}, VNI: 7, TTL: ttl,
	}}}))
	t.Cleanup(func() { _ = p.Stop(context.Background()) })
	return p
}

// offer steps producers until the agents hold them; again renews their holds.
func (c *crowd) offer() (again func()) {
	var all []*engine.Shares
	for i := range stormProducers {
		all = append(all, engine.NewShares(engine.SharesOptions{
			Run: 1, Host: "producers", Service: "web", Producer: fmt.Sprintf("p%d", i), Quota: stormQuota,
			Target: engine.Target{Host: netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})}, Agents: len(c.parts),
		}))
	}
	step := func() (held int) {
		for _, s := range all {
			offers, _ := s.Step(bootNow())
			for _, o := range offers {
				b, err := engine.Encode(o.Hold)
				check(c.t, err)
				// Not part of what is measured: straight into the agent.
				if answer := c.parts[o.Agent].answer("producers", 0, b); answer != nil {
					m, err := engine.Decode(answer)
					check(c.t, err)
					s.Acked(bootNow(), o.Agent, m.(engine.Ack))
				}
			}
		}
		for _, p := range c.parts {
			p.mu.Lock()
			held += int(p.book.Services(bootNow())[0].Share)
			p.mu.Unlock()
		}
		return held
	}
	until(c.t, "the agents hold all producers", func() bool { return step() == stormProducers*stormQuota })
	return func() { step() }
}

// round lets one consumer ask what is due and returns how long each answer took.
func (c *crowd) round(host int) (took []time.Duration, next time.Duration) {
	set := c.sets[host]
	requests, next := set.Step(bootNow())
	for _, r := range requests {
		b, err := engine.Encode(r.Want)
		check(c.t, err)
		asked := time.Now()
		answer, err := c.exchange(host, r.Agent, b)
		took = append(took, time.Since(asked))
		if err != nil {
			continue // it is asked again
		}
		m, err := engine.Decode(answer)
		check(c.t, err)
		set.Granted(bootNow(), r.Agent, m.(engine.Grant))
	}
	return took, next
}

// TestTenThousandConsumers: two agents lease to 10,000 hosts, no quota is exceeded, and what the agents remember is
// bounded.
func TestTenThousandConsumers(t *testing.T) {
	parts := []*Part{stormPart(t, time.Minute, nobody{}), stormPart(t, time.Minute, nobody{})}
	c := newCrowd(t, parts)
	c.exchange = func(host, agent int, message []byte) ([]byte, error) {
		return parts[agent].answer(stormName(host), 0, message), nil
	}
	c.offer()
	before := heap()
	for i := range c.sets {
		s := c.sets[i]
		for begun := time.Now(); len(s.Leases()) < 2 && time.Since(begun) < stormPatience; { // two agents may choose the same producer at first
			c.round(i)
		}
	}
	grown := heap() - before
	used := map[string]int{}
	for i, s := range c.sets {
		if n := len(s.Leases()); n != 2 {
			t.Fatalf("host %d has %d leases, want 2", i, n)
		}
		for _, u := range s.Leases() {
			used[u.Producer]++
		}
	}
	for p, n := range used {
		if n > stormQuota {
			t.Errorf("%s is used by %d consumers, its quota is %d", p, n, stormQuota)
		}
	}
	if most := int64(64 << 20); grown > most {
		t.Errorf("memory of agents and consumers grew by %d bytes, want at most %d", grown, most)
	}
	runtime.KeepAlive(c)
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail for one's own
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// stormSessions is how many sessions 10,000 consumers share: each consumer with its own would take more descriptors than
// a process may have. To an agent it is the same: sessions are looked up by key, consumers by name.
const stormSessions = 1000

// carriers is an agent's channel whose datagrams begin with the number of the consumer that they are of.
type carriers struct{ *control.Server }

func (c carriers) HandleDatagram(kind uint8, h func(host string, seq uint64, payload []byte) []byte) {
	c.Server.HandleDatagram(kind, func(_ string, seq uint64, payload []byte) []byte {
		if len(payload) < 4 {
			return nil
		}
		return h(stormName(int(binary.BigEndian.Uint32(payload))), seq, payload[4:])
	})
}

// BenchmarkStorm: 10,000 hosts renew at two agents over the sealed channel. It shows how long answers take, in the steady
// state and when all hosts ask in one moment, as after an agent's outage.
func BenchmarkStorm(b *testing.B) {
	var parts []*Part
	var boxes []*controltest.Box
	for range 2 {
		box := controltest.Server(b, controltest.Options{})
		parts = append(parts, stormPart(b, DefaultTTL, carriers{box.Server()}))
		box.Serve()
		boxes = append(boxes, box)
	}
	c := newCrowd(b, parts)
	clients := c.join(boxes)
	c.exchange = func(host, agent int, message []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(b.Context(), exchangePatience)
		defer cancel()
		return clients[host%stormSessions][agent].Exchange(ctx, control.KindLease, append(binary.BigEndian.AppendUint32(nil, uint32(host)), message...))
	}
	renewHolds := c.offer()
	before := heap()
	burst := c.all(renewHolds, 0)
	b.ReportMetric(percentile(burst, 0.99), "ns-burst-p99")
	c.all(renewHolds, DefaultTTL/2) // everyone finds its place
	used := cpu()
	steady := c.all(renewHolds, 15*time.Second)
	used = cpu() - used
	b.ReportMetric(percentile(steady, 0.99), "ns-p99")
	b.ReportMetric(percentile(steady, 0.5), "ns-p50")
	b.ReportMetric(float64(used)/float64(len(steady)), "ns-cpu") // of both ends, for one renewal
	b.ReportMetric(float64(len(steady)), "renewals")
	b.ReportMetric(float64(max(0, heap()-before)), "B-grown")
}

// join makes the sessions at every box, some at a time.
func (c *crowd) join(boxes []*controltest.Box) [][]*control.Client {
	clients := make([][]*control.Client, stormSessions)
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	slots := make(chan struct{}, 64)
	var all sync.WaitGroup
	for i := range clients {
		for _, box := range boxes {
			name := fmt.Sprintf("carrier-%d", i)
			client := box.Client(name, control.ClientOptions{})
			clients[i] = append(clients[i], client)
			slots <- struct{}{}
			all.Add(1)
			client.OnJoin(sync.OnceFunc(func() { all.Done(); <-slots }))
			go func() { _ = client.Run(ctx) }()
		}
	}
	all.Wait()
	return clients
}

// all lets every consumer ask when it is due, for a span of time, or once each when that is 0.
func (c *crowd) all(renewHolds func(), span time.Duration) (took []time.Duration) {
	end := time.Now().Add(span)
	var mu sync.Mutex
	var running sync.WaitGroup
	for i := range c.sets {
		running.Go(func() {
			var mine []time.Duration
			for {
				t, next := c.round(i)
				mine = append(mine, t...)
				wait := next - bootNow()
				if span == 0 || time.Now().Add(wait).After(end) {
					break
				}
				timer := time.NewTimer(wait)
				<-timer.C
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	hold := time.NewTicker(time.Second)
	defer hold.Stop()
	for {
		select {
		case <-hold.C:
			renewHolds()
		case <-done:
			return took
		}
	}
}

func percentile(all []time.Duration, p float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return float64(all[int(float64(len(all)-1)*p)])
}
