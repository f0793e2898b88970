package vni

import (
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// TestFenceOverlay sends the kernel's overlay device what a host may get, over IPv4 and IPv6: the fence delivers what is
// of its attachment and counts everything else by its reason.
func TestFenceOverlay(t *testing.T) {
	t.Parallel()
	const epoch = 65536 // its place on the wire comes after 65,535's
	client, host, container := nettest.New(t), nettest.New(t), nettest.New(t)
	nettest.Veth(t, nettest.End{On: client, Name: "eth0", Addresses: []string{"10.8.0.100/24", "fd08::100/64"}},
		nettest.End{On: host, Name: "eth0", Addresses: []string{"10.8.0.1/24", "fd08::1/64"}})
	nettest.Veth(t, nettest.End{On: host, Name: "v71"},
		nettest.End{On: container, Name: "eth0", MAC: theMAC, Addresses: []string{theAddr + "/24"}})
	got := receiveIn(t, container, "container")

	f := newFence(t)
	host.Run(func() {
		d, err := overlay.Ensure(overlay.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Overlay(d.Index); err != nil {
			t.Fatal(err)
		}
	})
	f.know(t, theVNI)
	attach := func(plain bool) {
		h := Holding{Link: host.Index("v71"), Epoch: epoch, MAC: vniMAC, How: byPeer, Plain: plain}
		if err := f.Attach(theVNI, h); err != nil {
			t.Fatal(err)
		}
	}
	attach(false)
	f.Renew(bpf.BootNow() + uint64(time.Hour))

	at := Location{Interface: failover.Interface{ID: theVNI, MAC: vniMAC, Addresses: []netip.Addr{netip.MustParseAddr(theAddr)}}, Epoch: epoch}
	change := func(c func(*Location)) Location { l := at; c(&l); return l }
	seq, outcomes := uint64(0), map[string]uint64{}
	for _, to := range []string{"10.8.0.1", "fd08::1"} {
		c := client.Dial("udp", net.JoinHostPort(to, "4789"))
		for _, s := range []struct {
			l     Location
			plain bool
			want  string
		}{
			{at, false, "delivered"},
			{change(func(l *Location) { l.Epoch-- }), false, "stale epoch"},
			{change(func(l *Location) { l.Epoch -= 30000 }), false, "stale epoch"},
			{change(func(l *Location) { l.Epoch++ }), false, "epoch ahead"},
			{change(func(l *Location) { l.Epoch = 0 }), false, "no epoch"},
			{change(func(l *Location) { l.Epoch = 0 }), true, "delivered"},
			{change(func(l *Location) { l.Interface.MAC = otherMAC }), false, "other MAC"},
			{change(func(l *Location) { l.Interface.ID++ }), false, ""}, // of nobody here: passed on
		} {
			attach(s.plain)
			seq++
			if _, err := c.Write(overlayPacket(s.l, seq)); err != nil {
				t.Fatal(err)
			}
			if s.want == "" {
				continue
			}
			outcomes[s.want]++
			for deadline := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
				counts, err := f.Counters()
				if err != nil {
					t.Fatal(err)
				}
				maps.DeleteFunc(counts, func(_ string, n uint64) bool { return n == 0 })
				if maps.Equal(counts, outcomes) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("over %s, after datagram %d: outcomes %v, want %v", to, seq, counts, outcomes)
				}
			}
		}
	}
	got.until(t, 8) // both of IPv4, and of IPv6
	if n := len(got.Between(1, seq)); n < 3 {
		t.Errorf("the instance has got %d datagrams", n)
	}
}
