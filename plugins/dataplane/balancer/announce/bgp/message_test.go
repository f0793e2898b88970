package bgp

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

func TestOpenSaysWhoWeAre(t *testing.T) {
	for _, as := range []uint32{64512, 4200000001} {
		s := Speaker{AS: as, RouterID: netip.MustParseAddr("192.0.2.1"), HoldTime: 9 * time.Second, RestartTime: 2 * time.Hour}
		m, err := open(s, true)
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Serialize()
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		o := got.body.(*bgp.BGPOpen)
		who, hold, families := peerOf(o)
		if who != as || hold != 9*time.Second || !families[bgp.RF_IPv4_UC] || !families[bgp.RF_IPv6_UC] {
			t.Errorf("AS %d: read as AS %d, hold %v, families %v", as, who, hold, families)
		}
		if as > 0xffff && o.MyAS != asTrans {
			t.Errorf("AS %d: two-octet field says %d", as, o.MyAS)
		}
	}
}

// FuzzRead feeds a neighbour's bytes to what reads them.
func FuzzRead(f *testing.F) {
	s := Speaker{AS: 64512, RouterID: netip.MustParseAddr("192.0.2.1"), HoldTime: 9 * time.Second}
	o, err := open(s, false)
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []*bgp.BGPMessage{o, bgp.NewBGPKeepAliveMessage(), bgp.NewBGPNotificationMessage(6, 2, []byte("maintenance")), bgp.NewEndOfRib(bgp.RF_IPv6_UC)} {
		b, err := m.Serialize()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		m, err := read(bytes.NewReader(b))
		if err != nil {
			return
		}
		switch m.kind {
		case bgp.BGP_MSG_OPEN:
			peerOf(m.body.(*bgp.BGPOpen))
		case bgp.BGP_MSG_NOTIFICATION:
			_ = notified(m)
		}
	})
}
