package neighbour

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"go.uber.org/goleak"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ours   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	theirs = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	vip4   = netip.MustParseAddr("192.0.2.80")
	vip6   = netip.MustParseAddr("2001:db8::80")
)

// The frames as a library that is not ours reads them.
func TestFrames(t *testing.T) {
	f := AppendARP(nil, ours, vip4, Question{Asker: netip.MustParseAddr("192.0.2.9"), AskerMAC: theirs})
	a, ok := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || a.Operation != layers.ARPReply || !bytes.Equal(a.SourceHwAddress, ours) || !bytes.Equal(a.SourceProtAddress, vip4.AsSlice()) || !bytes.Equal(a.DstHwAddress, theirs) {
		t.Errorf("reply %x is read as %+v", f, a)
	}
	f = AppendARP(nil, ours, vip4, Question{})
	a, ok = gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || a.Operation != layers.ARPRequest || !bytes.Equal(a.SourceProtAddress, a.DstProtAddress) {
		t.Errorf("announcement %x is read as %+v", f, a)
	}
	for _, q := range []Question{{}, {Asker: netip.MustParseAddr("2001:db8::9"), AskerMAC: theirs}} {
		f = AppendAdvertisement(nil, ours, vip6, q)
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
		na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		if !ok || !na.TargetAddress.Equal(vip6.AsSlice()) || na.Solicited() != q.Asker.IsValid() || !na.Override() || na.Router() {
			t.Fatalf("advertisement %x is read as %+v", f, na)
		}
		if o := na.Options[0]; o.Type != layers.ICMPv6OptTargetAddress || !bytes.Equal(o.Data, ours) {
			t.Errorf("advertisement has the option %v", o)
		}
	}
}

// A kernel on the same link finds VIPs while they are owned, and learns of a new owner by its announcement alone.
func TestKernelFindsUs(t *testing.T) {
	client, box, peer, lan := nettest.New(t), nettest.New(t), nettest.New(t), nettest.NewSwitch(t)
	lan.Plug(nettest.End{On: client, Name: "lan0", Addresses: []string{"192.0.2.9/24", "2001:db8::9/64"}})
	lan.Plug(nettest.End{On: box, Name: "data0", MAC: ours.String(), Addresses: []string{"192.0.2.1/24", "2001:db8::1/64"}})
	lan.Plug(nettest.End{On: peer, Name: "data0", MAC: theirs.String(), Addresses: []string{"192.0.2.2/24", "2001:db8::2/64"}})
	open := func(ns *nettest.Namespace) (r *Responder) {
		link := ns.Link("data0")
		var err error
		ns.Run(func() { r, err = Listen(link, slog.New(slog.DiscardHandler)) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	first, second := open(box), open(peer)
	resolves := func(want string) bool {
		for _, to := range []string{"192.0.2.80", "2001:db8::80"} {
			c := client.Dial("udp", net.JoinHostPort(to, "9"))
			c.Write([]byte("hello"))
			if !bytes.Contains([]byte(client.Exec("ip", "neigh", "show", "to", to)), []byte(want)) {
				return false
			}
		}
		return true
	}
	until := func(what, want string) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(10 * time.Second); !resolves(want); <-tick.C {
			if time.Now().After(end) {
				t.Fatalf("not within 10 s: %s\n%s", what, client.Exec("ip", "neigh", "show"))
			}
		}
	}
	until("an address that nobody owns is not resolved", "INCOMPLETE")
	first.Own([]netip.Addr{vip4, vip6})
	until("the owner is found", ours.String())

	first.Own(nil)
	second.Own([]netip.Addr{vip4, vip6})
	if err := second.Announce(); err != nil {
		t.Fatal(err)
	}
	until("the new owner is known", theirs.String())
}

// FuzzParse: whatever comes, an answer is only made to a well-formed question, and reads as one.
func FuzzParse(f *testing.F) {
	f.Add(AppendARP(nil, ours, vip4, Question{}))
	f.Add(AppendAdvertisement(nil, ours, vip6, Question{}))
	ns := AppendAdvertisement(nil, ours, vip6, Question{})
	ns[ethernet+ipv6Header] = solicitation
	f.Add(ns)
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, ok := ParseARP(b); ok && len(AppendARP(nil, ours, q.Target, q)) != ethernet+arpBody {
			t.Errorf("answer to %+v", q)
		}
		if q, ok := ParseSolicitation(b); ok {
			a := AppendAdvertisement(nil, ours, q.Target, q)
			if len(a) != ethernet+ipv6Header+ndBody+ndOption || checksum(a[ethernet+8:ethernet+40], a[ethernet+40:]) != 0 {
				t.Errorf("answer to %+v: %x", q, a)
			}
		}
	})
}
