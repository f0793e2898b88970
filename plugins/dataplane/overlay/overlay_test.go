package overlay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
)

// TestKernelAcceptsOurBytes sends what Header.Append writes to the kernel's device, over IPv4 and IPv6, with an epoch
// and without one, and reads the inner datagram from a socket.
func TestKernelAcceptsOurBytes(t *testing.T) {
	a, b := nettest.New(t), nettest.New(t)
	nettest.Veth(t, nettest.End{On: a, Name: "a0", Addresses: []string{"10.0.0.1/24", "fd00::1/64"}},
		nettest.End{On: b, Name: "b0", Addresses: []string{"10.0.0.2/24", "fd00::2/64"}})
	b.IP("address add 192.0.2.80/32 dev lo", "route add 198.51.100.0/24 via 10.0.0.1")
	b.Run(func() {
		if _, err := Ensure(Options{}); err != nil {
			t.Fatal(err)
		}
	})
	inner := b.ListenPacket("udp", "192.0.2.80:7")
	for _, tt := range []struct {
		name, to string
		header   Header
	}{
		{"plain", "10.0.0.2:4789", Header{VNI: 7}},
		{"epoch", "10.0.0.2:4789", Header{VNI: MaxVNI, Epoch: 0xffff}},
		{"IPv6", "[fd00::2]:4789", Header{VNI: 1, Epoch: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := a.Dial("udp", tt.to)
			if _, err := c.Write(tt.header.Append(nil)); err != nil { // truncated: it must not disturb what follows
				t.Fatal(err)
			}
			want := "over " + tt.name
			if _, err := c.Write(append(tt.header.Append(nil), innerFrame(netip.MustParseAddrPort("198.51.100.9:9"), netip.MustParseAddrPort("192.0.2.80:7"), want)...)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			inner.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, from, err := inner.ReadFrom(b)
			if err != nil || string(b[:n]) != want || from.String() != "198.51.100.9:9" {
				t.Fatalf("received %q from %v: %v, want %q from 198.51.100.9:9", b[:n], from, err, want)
			}
		})
	}
}

// innerFrame is a UDP datagram over IPv4 in an Ethernet frame to MAC.
func innerFrame(from, to netip.AddrPort, payload string) []byte {
	f := append(append([]byte{}, MAC()...), 2, 0, 0, 0, 0, 9, 8, 0)
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0}
	ip = append(append(ip, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+8+len(payload)))
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	f = append(f, ip...)
	f = binary.BigEndian.AppendUint16(f, from.Port())
	f = binary.BigEndian.AppendUint16(f, to.Port())
	f = binary.BigEndian.AppendUint16(f, uint16(8+len(payload)))
	return append(append(f, 0, 0), payload...)
}

// BenchmarkKeep looks at as many routes as there are groups, all of them there: 15 ms; with a socket for each, 58.
func BenchmarkKeep(b *testing.B) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		b.Fatal(err)
	}
	d, routes := &Device{Name: lo.Name, Index: lo.Index}, make([]Route, 1024)
	for i := range routes {
		routes[i].To = netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 0, byte(i >> 8), byte(i)}), 32)
	}
	for b.Loop() {
		for _, err := range d.Keep(routes) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
