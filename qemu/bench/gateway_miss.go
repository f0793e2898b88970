package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
	"github.com/ratchetos/ratchet/qemu/s3server"
)

// missFarAway compares hits that share their connection with misses and hits that do not (S7).
func (s *session) missFarAway(ctx context.Context, srv *s3server.Server, proxy *way) error {
	const size, hot = gib, 64 * mib
	store := s3Store(srv, proxy.Address, "miss")
	dir, err := s.folder("gateway-remote-fill")
	if err != nil {
		return err
	}
	s.note("fill the store")
	w, t, err := s.gateway(ctx, dir, gatewayConfig{size: size, disk: 2 * gib, store: store, maxAge: "100ms"})
	if err != nil {
		return err
	}
	err = errors.Join(t.fill(ctx, size), w.uploaded(ctx))
	w.stop()
	if err != nil {
		return err
	}
	// A gateway with a blank disk has all of it in the store and nothing here.
	if dir, err = s.folder("gateway-remote-miss"); err != nil {
		return err
	}
	if w, t, err = s.gateway(ctx, dir, gatewayConfig{size: size, disk: 2 * gib, store: store}); err != nil {
		return err
	}
	defer w.stop()
	if _, err := t.run(ctx, fioJob{rw: "read", block: "1M", depth: 4, ops: hot / mib, size: hot}); err != nil {
		return err
	}
	if err := proxy.set(farAway); err != nil {
		return err
	}
	m := mixture{hot: hot, reads: s.scaled(20000), cold: shuffled(hot, size)}
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Abandon()
	for _, l := range mixtures {
		got := make(map[int][]float64) // p99 of hits in µs, by how many of a hundred reads miss
		var ratios []float64
		for round := range s.alternations() {
			for _, misses := range []int{0, 1} {
				p99, slow, err := m.measure(c, misses, l.run)
				if err != nil {
					return err
				}
				s.note("hits %swith %d %% misses %d: p99 %s, median miss %s", l.what, misses, round+1, p99, slow)
				got[misses] = append(got[misses], float64(p99.Microseconds()))
			}
			ratios = append(ratios, got[1][round]/got[0][round])
		}
		n := s.alternations()
		s.figures.Record("gateway."+l.name+"_p99_with_misses_ratio", Figure{Value: Median(ratios), Unit: "x", Goal: "<= 2", Peer: "the same without misses", N: n})
		s.figures.Record("gateway."+l.name+"_p99", Figure{Value: Median(got[0]), Unit: "us", N: n})
		s.figures.Record("gateway."+l.name+"_p99_with_misses", Figure{Value: Median(got[1]), Unit: "us", N: n})
	}
	return c.Close()
}

// cell is what a miss fetches.
const cell = 64 << 10

// shuffled returns the cells of a range in random order.
func shuffled(from, to uint64) []uint64 {
	var list []uint64
	for off := from; off < to; off += cell {
		list = append(list, off)
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// mixtures are the ways to ask for a mixture.
var mixtures = []struct {
	name, what string
	run        func(*mixture, *nbdtest.Client, int) ([]answer, error)
}{
	{"hit", "", (*mixture).flatOut},
	{"paced_hit", "at 16,000/s ", (*mixture).paced},
}

// mixture reads with several requests in flight on one connection: most where everything is local, some where nothing
// is. Each cold cell is read once.
type mixture struct {
	hot   uint64 // bytes from the start that are local
	reads int
	cold  []uint64
	sent  int // in this run
}

// answer is what one read took.
type answer struct {
	cold bool
	took time.Duration
}

// measure reads, misses of a hundred cold, and returns the 99th percentile of the hits' latencies and the median of the
// misses'. This process collects no garbage meanwhile: its clients would wait for that.
func (m *mixture) measure(c *nbdtest.Client, misses int, run func(*mixture, *nbdtest.Client, int) ([]answer, error)) (p99, miss time.Duration, err error) {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	m.sent = 0
	list, err := run(m, c, misses)
	if err != nil {
		return 0, 0, fmt.Errorf("read hits and misses: %w", err)
	}
	var hits, slow []time.Duration
	for _, a := range list {
		if a.cold {
			slow = append(slow, a.took)
		} else {
			hits = append(hits, a.took)
		}
	}
	slices.Sort(hits)
	slices.Sort(slow)
	if len(slow) > 0 {
		miss = slow[len(slow)/2]
	}
	return hits[len(hits)*99/100], miss, nil
}

// question is a read that was sent.
type question struct {
	cold bool
	at   time.Time
}

// send asks for the next block.
func (m *mixture) send(c *nbdtest.Client, misses int) (uint64, question, error) {
	const block = 4096
	cold := m.sent%100 < misses
	off := rand.Uint64N(m.hot/block) * block
	if cold {
		if len(m.cold) == 0 {
			return 0, question{}, errors.New("every cold cell has been read")
		}
		off, m.cold = m.cold[0], m.cold[1:]
	}
	m.sent++
	q := question{cold, time.Now()}
	id, err := c.Send(nbdtest.Request{Cmd: 0, Off: off, Len: block})
	return id, q, err
}

// flatOut keeps 8 hits in flight. Misses do not count: one that waits takes no hit's place, so what is compared is
// what the server does and not how many requests the client has left. Thus the misses come faster than their provider
// answers, and what they take of the processors is taken from the hits.
func (m *mixture) flatOut(c *nbdtest.Client, misses int) ([]answer, error) {
	const depth = 8
	asked := make(map[uint64]question)
	list := make([]answer, 0, m.reads)
	for out := 0; len(list) < m.reads; {
		for m.sent < m.reads && out < depth {
			id, q, err := m.send(c, misses)
			if err != nil {
				return nil, err
			}
			asked[id] = q
			if !q.cold {
				out++
			}
		}
		r, err := c.Recv()
		if err = errors.Join(err, r.Err); err != nil {
			return nil, err
		}
		q := asked[r.Cookie]
		delete(asked, r.Cookie)
		list = append(list, answer{q.cold, time.Since(q.at)})
		if !q.cold {
			out--
		}
	}
	return list, nil
}

// paced sends 16 reads a millisecond, whether the last have been answered or not, as clients do that have work of
// their own: how fast the server is changes nothing of what it is asked for.
func (m *mixture) paced(c *nbdtest.Client, misses int) ([]answer, error) {
	const burst, pause = 16, time.Millisecond
	type received struct {
		id uint64
		at time.Time
	}
	replies := make([]received, 0, m.reads)
	failed := make(chan error, 1)
	go func() {
		for len(replies) < cap(replies) {
			r, err := c.Recv()
			if err = errors.Join(err, r.Err); err != nil {
				c.Abandon() // and no more can be sent
				failed <- err
				return
			}
			replies = append(replies, received{r.Cookie, time.Now()})
		}
		failed <- nil
	}()
	asked := make(map[uint64]question, m.reads)
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for m.sent < m.reads {
		for range min(burst, m.reads-m.sent) {
			id, q, err := m.send(c, misses)
			if err != nil {
				c.Abandon()
				return nil, errors.Join(err, <-failed)
			}
			asked[id] = q
		}
		<-tick.C
	}
	if err := <-failed; err != nil {
		return nil, err
	}
	list := make([]answer, 0, m.reads)
	for _, r := range replies {
		q := asked[r.id]
		list = append(list, answer{q.cold, r.at.Sub(q.at)})
	}
	return list, nil
}
