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

// TestOtherNumbers: a box that takes over gave its groups other numbers than the one before. Each address is its new group's,
// in whichever order they come and the old ones go, and one that is nobody's any more is not routed.
func TestOtherNumbers(t *testing.T) {
	const first, second, third = "10.9.0.1", "10.9.0.2", "10.9.0.3"
	numbered := func(id, vni uint32, address string) *Group {
		m := members(1)
		m[0].VNI = vni
		return &Group{ID: id, Name: "g", Addresses: []netip.Addr{netip.MustParseAddr(address)}, Changed: uint64(id), Members: m}
	}
	for name, c := range map[string]struct {
		step func(w *writer, way Way)
		want map[string]int // by address, the member's VNI less 1000; none: not routed
	}{
		"exchanged": {func(w *writer, way Way) {
			w.set(numbered(1, 1003, second), way)
			w.set(numbered(2, 1004, first), way)
		}, map[string]int{first: 4, second: 3}},
		"moved on": {func(w *writer, way Way) {
			w.set(numbered(2, 1003, third), way)
			w.set(numbered(1, 1004, second), way)
		}, map[string]int{second: 4, third: 3}},
		"taken before it is given up": {func(w *writer, way Way) { // in an update of many pages
			w.set(numbered(1, 1003, second), way)
			w.remove(2)
		}, map[string]int{second: 3}},
		"one is left": {func(w *writer, way Way) {
			w.set(numbered(3, 1003, second), way)
			w.keepOnly([]*Group{numbered(3, 1003, second)})
		}, map[string]int{second: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			n, w := clientsHost(t)
			n.Run(func() {
				w.set(numbered(1, 1001, first), ways())
				w.set(numbered(2, 1002, second), ways())
				c.step(w, ways())
				w.lookAgain()
			})
			for _, a := range []string{first, second, third} {
				member, wanted := c.want[a]
				if _, over := routed(n, w, a); over != wanted {
					t.Errorf("%s routed over the overlay: %t, want %t", a, over, wanted)
				}
				verdict, _ := run(t, w.datapath, tcp(a, 1, syn))
				if (verdict == actRedirect) != wanted {
					t.Errorf("%s: verdict %d", a, int32(verdict))
					continue
				}
				if !wanted {
					continue
				}
				if got := to(t, w.datapath, tcp(a, 1, syn)); got != member {
					t.Errorf("%s went to member %d, want %d", a, got, member)
				}
			}
		})
	}
}
