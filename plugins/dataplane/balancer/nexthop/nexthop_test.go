package nexthop

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

// Next hops are resolved without anybody having talked to them, over a gateway as well, and marked as managed.
func TestKeepResolves(t *testing.T) {
	box, router := nettest.New(t), nettest.New(t)
	nettest.Veth(t, nettest.End{On: box, Name: "data0", Addresses: []string{"192.0.2.1/24", "2001:db8::1/64"}},
		nettest.End{On: router, Name: "lan0", Addresses: []string{"192.0.2.2/24", "192.0.2.3/24", "2001:db8::2/64"}})
	box.IP("route add 198.51.100.0/24 via 192.0.2.2")
	var k *Keeper
	var err error
	box.Run(func() { k, err = Open() })
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	addresses := []netip.Addr{
		netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("198.51.100.8"), netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::2"),
	}
	for range 2 {
		if err := k.Keep(addresses); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, want := range []string{"192.0.2.2", "192.0.2.3", "2001:db8::2"} {
		for end := time.Now().Add(5 * time.Second); ; <-tick.C {
			got := box.Exec("ip", "neigh", "show", "to", want)
			if strings.Contains(got, "lladdr") && strings.Contains(got, "managed") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s is %q", want, got)
			}
		}
	}
	if err := k.Keep([]netip.Addr{netip.MustParseAddr("203.0.113.1")}); err == nil {
		t.Error("an address without a route was kept")
	}
}

// An answer that comes too late, as after the box stood still, is not taken for that to the next question.
func TestKeepAfterLateAnswer(t *testing.T) {
	box, router := nettest.New(t), nettest.New(t)
	nettest.Veth(t, nettest.End{On: box, Name: "data0", Addresses: []string{"192.0.2.1/24"}}, nettest.End{On: router, Name: "lan0"})
	var k *Keeper
	var err error
	box.Run(func() { k, err = Open() })
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.neighbours.Send(neighbour(hop{netip.MustParseAddr("192.0.2.2"), uint32(box.Index("data0"))})); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.Keep([]netip.Addr{netip.MustParseAddr("192.0.2.3")}); err != nil {
			t.Error(err)
		}
	}
}

func TestForward(t *testing.T) {
	box, router := nettest.New(t), nettest.New(t)
	nettest.Veth(t, nettest.End{On: box, Name: "data0"}, nettest.End{On: router, Name: "lan0"})
	link := box.Link("data0")
	for range 2 {
		var err error
		box.Run(func() { err = Forward(link) })
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"ipv4", "ipv6"} {
		if got := strings.TrimSpace(box.Exec("cat", "/proc/sys/net/"+file+"/conf/data0/forwarding")); got != "1" {
			t.Errorf("%s: forwarding is %q", file, got)
		}
	}
}
