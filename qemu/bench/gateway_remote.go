package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/qemu/s3server"
)

// farAway is the round trip to a provider on another continent.
const farAway = 100 * time.Millisecond

// s3Store is the store section for a server behind an address; prefix keeps the volumes of measurements apart.
func s3Store(srv *s3server.Server, address, prefix string) string {
	return fmt.Sprintf("{driver: s3, endpoint: %q, region: %s, bucket: %s, access_key: %q, secret_key: %q, prefix: %q}",
		"http://"+address, srv.Region, srv.Bucket, srv.AccessKey, srv.SecretKey, prefix)
}

// gatewayRemote looks at what the distance of the provider does to clients. The provider is this machine, too, and takes
// only the processor time that the clients and the gateway leave.
func (s *session) gatewayRemote(ctx context.Context) error {
	dir, err := s.folder("gateway-remote")
	if err != nil {
		return err
	}
	srv, err := s3server.Start(ctx, s3server.Options{Dir: filepath.Join(dir, "s3"), Before: yielding})
	if err != nil {
		return err
	}
	defer srv.Stop()
	proxy, err := startWay(ctx, srv.Address, yielding...)
	if err != nil {
		return err
	}
	defer proxy.stop()
	return errors.Join(s.flushFarAway(ctx, srv, proxy), s.missFarAway(ctx, srv, proxy))
}

// flushFarAway compares FLUSHes while uploads run to a provider that is near and to one that is far. It is the same
// gateway; only the distance changes.
func (s *session) flushFarAway(ctx context.Context, srv *s3server.Server, proxy *way) error {
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
			if err := proxy.set(trip); err != nil {
				return err
			}
			before, err := proxy.sent()
			if err != nil {
				return err
			}
			l, err := t.run(ctx, job)
			if err != nil {
				return err
			}
			after, err := proxy.sent()
			if err != nil {
				return err
			}
			sent := float64(after-before) / mib
			s.note("flush at %s %d: %.0f/s, FLUSH p99 %s, %.1f MiB uploaded meanwhile", trip, round+1, l.iops, l.syncP99, sent)
			if sent == 0 {
				return fmt.Errorf("nothing was uploaded while FLUSHes were measured at %s", trip)
			}
			uploaded = append(uploaded, sent)
			runs[trip] = append(runs[trip], l)
		}
	}
	if err := proxy.set(0); err != nil {
		return err
	}
	p99 := func(l load) float64 { return float64(l.syncP99.Microseconds()) }
	n := s.alternations()
	s.figures.Record("gateway.flush_p99_far_ratio", Figure{Value: ratio(runs[farAway], runs[0], p99), Unit: "x", Goal: "<= 1.1", Peer: "the same at 0 ms", N: n})
	s.figures.Record("gateway.flush_p99_near", Figure{Value: medianOf(runs[0], p99), Unit: "us", N: n})
	s.figures.Record("gateway.flush_p99_far", Figure{Value: medianOf(runs[farAway], p99), Unit: "us", N: n})
	s.figures.Record("gateway.flush_uploaded", Figure{Value: Median(uploaded), Unit: "MiB", N: n})
	return nil
}
