package group

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// clientsHost is a host with a way to the members of the other tests, and its writer.
func clientsHost(t *testing.T) (*nettest.Namespace, *writer) {
	t.Helper()
	n := nettest.New(t)
	nettest.Veth(t, nettest.End{On: n, Name: "eth0", Addresses: []string{"192.0.2.1/24"}}, nettest.End{On: nettest.New(t), Name: "far0"})
	var w *writer
	var err error
	n.Run(func() { w, err = openWriter(AgentOptions{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	w.datapath.Confirm(bpf.BootNow() + uint64(time.Hour))
	return n, w
}

// routed says whether an address is reached over the overlay, and from where.
func routed(n *nettest.Namespace, w *writer, to string) (source netip.Addr, over bool) {
	n.Run(func() {
		way, err := overlay.PathTo(netip.MustParseAddr(to))
		source, over = way.Source, err == nil && way.Index == w.device.Index
	})
	return source, over
}

// TestRoutesComeBack: an address that goes for a moment, as with a new DHCP lease, takes the routes with it whose source it
// is, and a device that is down for a moment takes all.
func TestRoutesComeBack(t *testing.T) {
	n, w := clientsHost(t)
	n.Run(func() { w.set(web(1), ways()) })
	for name, between := range map[string][]string{
		"another lease":   {"address delete 192.0.2.1/24 dev eth0", "address add 192.0.2.1/24 dev eth0"},
		"device was down": {"link set ratchet-vx down", "link set ratchet-vx up"},
	} {
		n.IP(between...)
		if _, over := routed(n, w, "10.9.0.1"); over {
			t.Fatalf("%s: the kernel has left the route alone", name)
		}
		n.Run(w.lookAgain)
		if source, over := routed(n, w, "10.9.0.1"); !over || source != netip.MustParseAddr("192.0.2.1") {
			t.Errorf("%s: routed over the overlay: %t, from %s", name, over, source)
		}
	}
}
