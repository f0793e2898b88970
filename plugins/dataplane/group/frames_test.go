package group

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

const (
	fin = 1
	syn = 2
	ack = 16
	rst = 4
)

// tcp is a client's frame on the overlay's device.
func tcp(to string, sport uint16, flags byte) []byte { return segment(to, sport, flags, "payload") }

func segment(to string, sport uint16, flags byte, payload string) []byte {
	l4 := make([]byte, 20, 60)
	binary.BigEndian.PutUint16(l4, sport)
	binary.BigEndian.PutUint16(l4[2:], 80)
	l4[12], l4[13] = 5<<4, flags
	return frame(to, 6, append(l4, payload...), nil)
}

func udp(to string, sport uint16) []byte {
	l4 := make([]byte, 8, 60)
	binary.BigEndian.PutUint16(l4, sport)
	binary.BigEndian.PutUint16(l4[2:], 53)
	return frame(to, 17, append(l4, "payload"...), nil)
}

// frame is Ethernet, IP and what follows; mend may change the IP header.
func frame(to string, protocol byte, l4 []byte, mend func(ip []byte)) []byte {
	dst := netip.MustParseAddr(to)
	b := append(overlay.MAC(), overlay.MAC()...)
	var ip []byte
	if dst.Is4() {
		b = append(b, 8, 0)
		ip = make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 64, protocol
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(l4)))
		copy(ip[12:], []byte{198, 51, 100, 7})
		copy(ip[16:], dst.AsSlice())
	} else {
		b = append(b, 0x86, 0xdd)
		ip = make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, protocol, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
		copy(ip[8:], netip.MustParseAddr("2001:db8:1::7").AsSlice())
		copy(ip[24:], dst.AsSlice())
	}
	if mend != nil {
		mend(ip)
	}
	return append(append(b, ip...), l4...)
}

// sent is a packet as it left.
type sent struct {
	to    netip.Addr
	vxlan overlay.Header
	mac   [6]byte
	inner []byte // from its Ethernet type on
}

// parse takes an outer packet apart and checks what is the same in all.
func parse(t testing.TB, b []byte) sent {
	t.Helper()
	var s sent
	l3 := b[14:]
	var l4 []byte
	switch {
	case b[12] == 8 && l3[0] == 0x45:
		if int(binary.BigEndian.Uint16(l3[2:])) != len(l3) || l3[9] != 17 {
			t.Fatalf("outer header % x does not fit %d bytes", l3[:20], len(l3))
		}
		s.to, l4 = netip.AddrFrom4([4]byte(l3[16:20])), l3[20:]
	case b[12] == 0x86 && l3[0]>>4 == 6:
		if int(binary.BigEndian.Uint16(l3[4:])) != len(l3)-40 || l3[6] != 17 {
			t.Fatalf("outer header % x does not fit %d bytes", l3[:40], len(l3))
		}
		s.to, l4 = netip.AddrFrom16([16]byte(l3[24:40])), l3[40:]
	default:
		t.Fatalf("not an outer packet: % x", b)
	}
	if binary.BigEndian.Uint16(l4[2:]) != overlay.Port || int(binary.BigEndian.Uint16(l4[4:])) != len(l4) {
		t.Fatalf("outer UDP header % x does not fit %d bytes", l4[:8], len(l4))
	}
	h, inner, err := overlay.Parse(l4[8:])
	if err != nil {
		t.Fatal(err)
	}
	s.vxlan, s.mac, s.inner = h, [6]byte(inner[:6]), inner[12:]
	return s
}
