package balancer

import (
	"strings"
	"testing"
	"time"
)

// The way to a backend moves to a gateway that the box has not talked to: the gateway is resolved at once and the
// connection goes on.
func TestRouteChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	s := w.backends[0]
	s.ns.IP("address add 10.0.0.121/24 dev data0")
	b := w.newBox("10.0.0.1")
	b.start(w.desired(nil, Backend{Address: s.address, Weight: 1}))
	w.client.IP("route add 10.0.0.80/32 via 10.0.0.1")
	c, err := w.connect(3 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.ns.IP("route add 10.0.0.20/32 via 10.0.0.121")
	until(t, "the gateway is resolved", func() bool {
		return strings.Contains(b.ns.Exec("ip", "neigh", "show", "to", "10.0.0.121"), "lladdr")
	})
	if err := c.alive(5 * time.Second); err != nil {
		t.Errorf("%v; %+v", err, b.part.running().showDrops())
	}
}
