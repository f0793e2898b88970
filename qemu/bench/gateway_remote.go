package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
	"github.com/ratchetos/ratchet/qemu/s3server"
)

// farAway is the round trip to a provider on another continent.
const farAway = 100 * time.Millisecond

// s3Store is the store section for a server behind an address; prefix keeps the volumes of measurements apart.
func s3Store(srv *s3server.Server, address, prefix string) string {
	return fmt.Sprintf("{driver: s3, endpoint: %q, region: %s, bucket: %s, access_key: %q, secret_key: %q, prefix: %q}",
		"http://"+address, srv.Region, srv.Bucket, srv.AccessKey, srv.SecretKey, prefix)
}

// gatewayRemote looks at what the distance of the provider does to clients.
func (s *session) gatewayRemote(ctx context.Context) error {
	dir, err := s.folder("gateway-remote")
	if err != nil {
		return err
	}
	srv, err := s3server.Start(ctx, s3server.Options{Dir: filepath.Join(dir, "s3")})
	if err != nil {
		return err
	}
	defer srv.Stop()
	proxy, err := startDelay(srv.Address)
	if err != nil {
		return err
	}
	defer proxy.stop()
	return errors.Join(s.flushFarAway(ctx, srv, proxy), s.missFarAway(ctx, srv, proxy))
}

// flushFarAway compares FLUSHes while uploads run to a provider that is near and to one that is far. It is the same
// gateway; only the distance changes.
func (s *session) flushFarAway(ctx context.Context, srv *s3server.Server, proxy *delayProxy) error {
	const size = 256 * mib
	dir, err := s.folder("gateway-remote-flush")
	if err != nil {
		return err
	}
	w, t, err := s.gateway(ctx, dir, gatewayConfig{size: size, disk: 2 * gib, store: s3Store(srv, proxy.Address, "flush"), maxAge: "100ms"})
	if err != nil {
		return err
	}
	defer w.stop()
	job := fioJob{rw: "randwrite", block: "4k", depth: 1, fsync: true, runtime: 4 * time.Second, size: size, extra: []string{"--refill_buffers"}}
	if s.Quick {
		job.runtime = 2 * time.Second
	}
	runs := make(map[time.Duration][]load)
	var uploaded []float64
	for round := range s.alternations() {
		for i := range 2 {
			trip := farAway * time.Duration((round+i)%2)
			proxy.set(trip)
			before := proxy.sent.Load()
			l, err := t.run(ctx, job)
			if err != nil {
				return err
			}
			sent := float64(proxy.sent.Load()-before) / mib
			s.note("flush at %s %d: %.0f/s, FLUSH p99 %s, %.1f MiB uploaded meanwhile", trip, round+1, l.iops, l.syncP99, sent)
			if sent == 0 {
				return fmt.Errorf("nothing was uploaded while FLUSHes were measured at %s", trip)
			}
			uploaded = append(uploaded, sent)
			runs[trip] = append(runs[trip], l)
		}
	}
	proxy.set(0)
	p99 := func(l load) float64 { return float64(l.syncP99.Microseconds()) }
	n := s.alternations()
	s.figures.Record("gateway.flush_p99_far_ratio", Figure{Value: ratio(runs[farAway], runs[0], p99), Unit: "x", Goal: "<= 1.1", Peer: "the same at 0 ms", N: n})
	s.figures.Record("gateway.flush_p99_near", Figure{Value: medianOf(runs[0], p99), Unit: "us", N: n})
	s.figures.Record("gateway.flush_p99_far", Figure{Value: medianOf(runs[farAway], p99), Unit: "us", N: n})
	s.figures.Record("gateway.flush_uploaded", Figure{Value: Median(uploaded), Unit: "MiB", N: n})
	return nil
}

// missFarAway compares hits that share their connection with misses and hits that do not (S7).
func (s *session) missFarAway(ctx context.Context, srv *s3server.Server, proxy *delayProxy) error {
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
	proxy.set(farAway)
	defer proxy.set(0)
	m := mixture{hot: hot, reads: s.scaled(20000), depth: 8, cold: shuffled(hot, size)}
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Abandon()
	got := make(map[int][]float64) // p99 of hits in µs, by how many of a hundred reads miss
	var ratios []float64
	for round := range s.alternations() {
		for _, misses := range []int{0, 1} {
			p99, slow, err := m.run(c, misses)
			if err != nil {
				return err
			}
			s.note("hits with %d %% misses %d: p99 %s, median miss %s", misses, round+1, p99, slow)
			got[misses] = append(got[misses], float64(p99.Microseconds()))
		}
		ratios = append(ratios, got[1][round]/got[0][round])
	}
	n := s.alternations()
	s.figures.Record("gateway.hit_p99_with_misses_ratio", Figure{Value: Median(ratios), Unit: "x", Goal: "<= 2", Peer: "the same without misses", N: n})
	s.figures.Record("gateway.hit_p99", Figure{Value: Median(got[0]), Unit: "us", N: n})
	s.figures.Record("gateway.hit_p99_with_misses", Figure{Value: Median(got[1]), Unit: "us", N: n})
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

// mixture reads with several requests in flight on one connection: most where everything is local, some where nothing
// is. Each cold cell is read once.
type mixture struct {
	hot   uint64 // bytes from the start that are local
	reads int
	depth int
	cold  []uint64
}

// run does the reads, misses of a hundred of them cold, and returns the 99th percentile of the hits' latencies and
// the median of the misses'. Hits alone count for the depth: a miss that waits takes no hit's place, so what is
// compared is what the server does and not how many requests the client has left.
func (m *mixture) run(c *nbdtest.Client, misses int) (p99, miss time.Duration, err error) {
	const block = 4096
	var hits, slow []time.Duration
	asked := make(map[uint64]time.Time)
	isMiss := make(map[uint64]bool)
	sent, hitsOut := 0, 0
	send := func() error {
		cold := misses > 0 && sent%100 < misses
		off := rand.Uint64N(m.hot/block) * block
		if cold {
			if len(m.cold) == 0 {
				return errors.New("every cold cell has been read")
			}
			off, m.cold = m.cold[0], m.cold[1:]
		}
		start := time.Now()
		id, err := c.Send(nbdtest.Request{Cmd: 0, Off: off, Len: block})
		asked[id], isMiss[id] = start, cold
		sent++
		if !cold {
			hitsOut++
		}
		return err
	}
	for done := 0; done < m.reads; done++ {
		for sent < m.reads && hitsOut < m.depth {
			if err := send(); err != nil {
				return 0, 0, err
			}
		}
		r, err := c.Recv()
		if err = errors.Join(err, r.Err); err != nil {
			return 0, 0, fmt.Errorf("read hits and misses: %w", err)
		}
		took := time.Since(asked[r.Cookie])
		delete(asked, r.Cookie)
		if isMiss[r.Cookie] {
			slow = append(slow, took)
		} else {
			hits = append(hits, took)
			hitsOut--
		}
		delete(isMiss, r.Cookie)
	}
	slices.Sort(hits)
	slices.Sort(slow)
	if len(slow) > 0 {
		miss = slow[len(slow)/2]
	}
	return hits[len(hits)*99/100], miss, nil
}
