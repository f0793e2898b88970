package balancer

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/flowsync"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// A peer that has acknowledged nothing for long is to take all flows anew as soon as it hears from this balancer again, not
// only once another connection has become established here.
func TestSilentPeerTakesAllFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{part: &Part{began: time.Now()}}
		p := &peer{run: r, kick: make(chan struct{}, 1), window: flowsync.NewWindow(windowSize), client: control.NewClient(control.ClientOptions{})}
		p.window.Add([]flowsync.Record{{Client: netip.MustParseAddrPort("198.51.100.7:1024"), Local: netip.MustParseAddrPort("192.0.2.80:80")}})
		ctx, cancel := context.WithCancel(t.Context())
		p.done.Go(func() { p.send(ctx) })
		defer func() { cancel(); p.done.Wait() }()
		stream := func() uint64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.stream
		}
		synctest.Wait()
		before := stream()
		time.Sleep(10 * resend)
		synctest.Wait()
		if now := stream(); now == before {
			t.Error("the peer is not told that it has missed a flow")
		}
	})
}
