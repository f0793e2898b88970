package balancer

import (
	"testing"
	"time"
)

// Backends without agents: connections through the VIP reach them, spread, and live.
func TestConnectionsReachBackends(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	b := w.newBox("10.0.0.1")
	var backends []Backend
	for _, s := range w.backends {
		backends = append(backends, Backend{Address: s.address, Weight: 1})
	}
	b.start(w.desired(nil, backends...))
	w.client.IP("route add 10.0.0.80/32 via 10.0.0.1")
	seen := map[int]int{}
	for range 60 {
		c, err := w.connect(3 * time.Second)
		if err != nil {
			t.Fatalf("%v; %+v", err, b.part.run.showDrops())
		}
		defer c.Close()
		seen[c.server]++
		if err := c.alive(3 * time.Second); err != nil {
			t.Fatalf("%v; %+v; %v", err, b.part.run.showDrops(), seen)
		}
	}
	if len(seen) != 3 {
		t.Errorf("connections went to %v", seen)
	}
}
