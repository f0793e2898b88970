package table

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

func big(n int) []byte { return slices.Repeat([]byte{'x'}, n) }

// tcp80 is a segment to a VIP's port 80.
func tcp80(ip packet.IP, flags uint8, payload []byte) []byte {
	return packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 4000, Dst: 80, Seq: 7, Flags: flags, Window: 99}.Segment(ip, payload))
}

var (
	to4 = packet.IP{Src: client4, Dst: vip4, DF: true, TOS: 0x28}
	to6 = packet.IP{Src: client6, Dst: vip6, TOS: 0x28}
)

// outer is what the balancer must make of a client's frame for a backend.
func outer(b Backend, src netip.Addr, sport uint16, frame []byte) []byte {
	inner := frame[14:]
	h := packet.IP{Src: src, Dst: b.Address}
	h.DF = inner[0]>>4 == 6 || inner[6]&0x40 != 0
	if h.TOS = inner[1]; inner[0]>>4 == 6 {
		h.TOS = inner[0]<<4 | inner[1]>>4
	}
	switch b.Encapsulation {
	case GUE:
		return packet.Frame(hopMAC, boxMAC, packet.UDP{Src: sport, Dst: 6080, NoChecksum: true}.Datagram(h, inner))
	case VXLAN:
		in := packet.Frame(packet.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, boxMAC, inner)
		return packet.Frame(hopMAC, boxMAC, packet.UDP{Src: sport, Dst: 4789, NoChecksum: true}.Datagram(h, packet.VXLAN(b.VNI, in)))
	}
	protocol := uint8(packet.IPIP)
	if inner[0]>>4 == 6 {
		protocol = packet.IPv6
	}
	return packet.Frame(hopMAC, boxMAC, h.Packet(protocol, inner))
}

// TestEncapsulation: all combinations of families and tunnels, every byte.
func TestEncapsulation(t *testing.T) {
	r := newRig(t, Options{}, 0)
	at4, at6 := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd00::9")
	for _, backend := range []Backend{
		{Address: at4},
		{Address: at6},
		{Address: at4, Encapsulation: GUE},
		{Address: at6, Encapsulation: GUE},
		{Address: at4, Encapsulation: VXLAN, VNI: 0xabcdef},
		{Address: at6, Encapsulation: VXLAN, VNI: 1},
	} {
		backend.NextHop = hopMAC[:]
		for _, preserve := range []bool{false, true} {
			r.forget()
			r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80, PreserveSource: preserve, PreservePort: preserve},
				VIP{Address: vip6, Protocol: TCP, First: 80, Last: 80, PreserveSource: preserve, PreservePort: preserve})
			r.setBackends(backend)
			r.setCredit(r.backends[0], Credit{Unlimited: true})
			for _, v := range r.vips {
				r.setRing(v, r.backends)
			}
			for _, ip := range []packet.IP{to4, to6} {
				in := tcp80(ip, packet.SYN, []byte("hello"))
				got := r.send(in)
				src := source4
				if backend.Address.Is6() {
					src = source6
				}
				if preserve && ip.Src.Is4() == backend.Address.Is4() {
					src = ip.Src
				}
				name := fmt.Sprintf("%v client over %v to %v, preserve %v", ip.Src, backend.Encapsulation, backend.Address, preserve)
				if got.Verdict != xdpTX {
					t.Fatalf("%s: verdict %d", name, got.Verdict)
				}
				// The outer port and the flow label are made of the hash: their shape is checked, then they are taken over.
				p := slices.Clone(got.Packet)
				var sport uint16
				l4 := 34
				if backend.Address.Is6() {
					l4 = 54
					p[15], p[16], p[17] = p[15]&0xf0, 0, 0
				}
				if backend.Encapsulation != IPIP {
					sport = uint16(p[l4])<<8 | uint16(p[l4+1])
					if preserve && sport != 4000 || !preserve && sport < 0xc000 {
						t.Errorf("%s: outer source port %d", name, sport)
					}
				}
				if d := packet.Diff(outer(backend, src, sport, in), p); d != "" {
					t.Errorf("%s:\n%s", name, d)
				}
			}
		}
	}
}

// TestPackets: what passes, what goes, what is dropped, and as what it is counted.
func TestPackets(t *testing.T) {
	other4, other6 := to4, to6
	other4.Dst, other6.Dst = netip.MustParseAddr("192.0.2.81"), netip.MustParseAddr("2001:db8::81")
	with := func(ip packet.IP, f func(*packet.IP)) packet.IP { f(&ip); return ip }
	change := func(frame []byte, at int, b ...byte) []byte {
		frame = slices.Clone(frame)
		copy(frame[at:], b)
		return frame
	}
	seg := packet.TCP{Src: 4000, Dst: 80, Flags: packet.ACK}
	quoted := func(ip packet.IP) []byte { // the head of a packet from the VIP to the client
		back := packet.IP{Src: ip.Dst, Dst: ip.Src}
		return packet.TCP{Src: 80, Dst: 4000, Flags: packet.ACK}.Segment(back, big(32))
	}
	icmp := func(ip packet.IP, kind uint8, quoted []byte) []byte {
		router := ip
		router.Src = netip.MustParseAddr("203.0.113.1")
		if ip.Dst.Is6() {
			router.Src = netip.MustParseAddr("2001:db8:ffff::1")
		}
		return packet.Frame(boxMAC, routerMAC, packet.ICMP{Type: kind, Code: 4, Rest: 1400}.Message(router, quoted))
	}
	udp := func(u packet.UDP, ip packet.IP, n int) []byte {
		return packet.Frame(boxMAC, routerMAC, u.Datagram(ip, big(n)))
	}
	r, since := newRig(t, Options{}, 7), reasons{}
	syn4, syn6 := tcp80(to4, packet.SYN, nil), tcp80(to6, packet.SYN, nil)
	for _, c := range []struct {
		name    string
		frame   []byte
		verdict uint32
		counted string
	}{
		{"SYN", syn4, xdpTX, "-"},
		{"SYN of IPv6", syn6, xdpTX, "-"},
		{"IPv4 with options", tcp80(with(to4, func(h *packet.IP) { h.Options = []byte{7, 7, 4, 0, 0, 0, 0, 0} }), packet.SYN, nil), xdpTX, "-"},
		{"IPv6 with extensions", tcp80(with(to6, func(h *packet.IP) {
			h.Extensions = []packet.Extension{{Type: 0, Body: make([]byte, 6)}, {Type: packet.DstOpts, Body: make([]byte, 14)}}
		}), packet.SYN, nil), xdpTX, "-"},
		{"padded to the least Ethernet frame", append(slices.Clone(syn4), make([]byte, 10)...), xdpTX, "-"},
		{"ARP", packet.Ethernet(boxMAC, routerMAC, 0x0806, big(46)), xdpPass, "pass not ip 1"},
		{"VLAN", packet.Ethernet(boxMAC, routerMAC, 0x8100, big(46)), xdpPass, "pass not ip 1"},
		{"another address", tcp80(other4, packet.SYN, nil), xdpPass, "pass no vip 1"},
		{"another IPv6 address", tcp80(other6, packet.SYN, nil), xdpPass, "pass no vip 1"},
		{"another port", packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 4000, Dst: 81, Flags: packet.SYN}.Segment(to4, nil)), xdpPass, "pass no vip 1"},
		{"another protocol", udp(packet.UDP{Src: 4000, Dst: 80}, to4, 8), xdpPass, "pass no vip 1"},
		{"GRE", packet.Frame(boxMAC, routerMAC, to4.Packet(packet.GRE, big(20))), xdpPass, "pass no vip 1"},
		{"echo to a VIP", packet.Frame(boxMAC, routerMAC, packet.ICMP{Type: 8}.Message(to4, big(60))), xdpPass, "pass local 1"},
		{"echo to an IPv6 VIP", packet.Frame(boxMAC, routerMAC, packet.ICMP{Type: 128}.Message(to6, big(60))), xdpPass, "pass local 1"},
		{"neighbour solicitation", packet.Frame(boxMAC, routerMAC, packet.ICMP{Type: 135}.Message(to6, big(20))), xdpPass, "pass local 1"},

		{"version 5", change(syn4, 14, 0x55), xdpDrop, "bad ip 1"},
		{"header of 16 bytes", change(syn4, 14, 0x44), xdpDrop, "bad ip 1"},
		{"longer than its frame", change(syn4, 16, 0xff, 0xff), xdpDrop, "truncated 1"},
		{"shorter than its header", change(syn4, 16, 0, 19), xdpDrop, "bad ip 1"},
		{"IPv4 cut off", syn4[:30], xdpDrop, "truncated 1"},
		{"IPv6 cut off", syn6[:50], xdpDrop, "truncated 1"},
		{"IPv6 longer than its frame", change(syn6, 18, 0xff, 0xff), xdpDrop, "truncated 1"},
		{"header checksum", tcp80(with(to4, func(h *packet.IP) { h.BadChecksum = true }), packet.SYN, nil), xdpDrop, "bad checksum 1"},
		{"header checksum with options", tcp80(with(to4, func(h *packet.IP) { h.BadChecksum, h.Options = true, make([]byte, 40) }), packet.SYN, nil), xdpDrop, "bad checksum 1"},
		{"five extensions", tcp80(with(to6, func(h *packet.IP) {
			h.Extensions = slices.Repeat([]packet.Extension{{Type: packet.DstOpts, Body: make([]byte, 6)}}, 5)
		}), packet.SYN, nil), xdpDrop, "bad extension 1"},
		{"routing header", tcp80(with(to6, func(h *packet.IP) {
			h.Extensions = []packet.Extension{{Type: packet.Routing, Body: make([]byte, 6)}}
		}), packet.SYN, nil), xdpDrop, "bad extension 1"},
		{"routing header to another address", tcp80(with(other6, func(h *packet.IP) {
			h.Extensions = []packet.Extension{{Type: packet.Routing, Body: make([]byte, 6)}}
		}), packet.SYN, nil), xdpPass, "pass no vip 1"},
		{"five extensions to another address", tcp80(with(other6, func(h *packet.IP) {
			h.Extensions = slices.Repeat([]packet.Extension{{Type: packet.DstOpts, Body: make([]byte, 6)}}, 5)
		}), packet.SYN, nil), xdpPass, "pass no vip 1"},
		{"TCP header too short", packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 1, Dst: 80, Flags: packet.SYN, Offset: 4}.Segment(to4, nil)), xdpDrop, "bad l4 1"},
		{"TCP header longer than the packet", packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 1, Dst: 80, Flags: packet.SYN, Offset: 6}.Segment(to4, nil)), xdpDrop, "bad l4 1"},
		{"no flags", tcp80(to4, 0, nil), xdpDrop, "bad flags 1"},
		{"SYN and FIN", tcp80(to4, packet.SYN|packet.FIN, nil), xdpDrop, "bad flags 1"},
		{"SYN and ACK", tcp80(to4, packet.SYN|packet.ACK, nil), xdpDrop, "bad flags 1"},
		{"from the VIP itself", tcp80(with(to4, func(h *packet.IP) { h.Src = vip4 }), packet.SYN, nil), xdpDrop, "bad source 1"},
		{"from the IPv6 VIP itself", tcp80(with(to6, func(h *packet.IP) { h.Src = vip6 }), packet.SYN, nil), xdpDrop, "bad source 1"},

		{"fragmentation needed, of a flow", icmp(to4, 3, quoted(to4)[:28]), xdpTX, "-"},
		{"packet too big, of a flow", icmp(to6, 2, quoted(to6)), xdpTX, "-"},
		{"time exceeded quoting somebody else's packet", icmp(to4, 11, quoted(with(to4, func(h *packet.IP) { h.Dst = client4 }))), xdpDrop, "bad icmp 1"},
		{"too big quoting somebody else's packet", icmp(to6, 2, quoted(with(to6, func(h *packet.IP) { h.Dst = client6 }))), xdpDrop, "bad icmp 1"},
		{"quoting a later fragment", icmp(to4, 3, packet.IP{Src: vip4, Dst: client4, Offset: 64}.Packet(packet.TCPv4, big(16))), xdpDrop, "fragment 1"},
		{"quoting too little", icmp(to4, 3, quoted(to4)[:20]), xdpPass, "pass local 1"},
		{"ICMP error to no VIP", icmp(other4, 3, quoted(other4)), xdpPass, "pass no vip 1"},

		{"too big to encapsulate, of IPv4", tcp80(to4, packet.ACK, big(1445)), xdpTX, "too big 1, too big sent 1"},
		{"too big to encapsulate, of IPv6", tcp80(to6, packet.ACK, big(1425)), xdpTX, "too big 1, too big sent 1"},
		{"too big, may be fragmented", tcp80(with(to4, func(h *packet.IP) { h.DF = false }), packet.ACK, big(1445)), xdpDrop, "too big 1"},

		{"later fragment without a first", packet.Frame(boxMAC, routerMAC, with(to4, func(h *packet.IP) { h.Offset, h.ID = 64, 9 }).Packet(packet.TCPv4, big(64))), xdpDrop, "fragment 1"},
		{"later fragment of an echo", packet.Frame(boxMAC, routerMAC, with(to4, func(h *packet.IP) { h.Offset = 64 }).Packet(packet.ICMPv4, big(64))), xdpPass, "pass local 1"},
		{"later fragment of an IPv6 echo", packet.Frame(boxMAC, routerMAC, with(to6, func(h *packet.IP) { h.Offset, h.ID = 64, 9 }).Packet(packet.ICMPv6, big(64))), xdpPass, "pass local 1"},
		{"fragment to nobody", packet.Frame(boxMAC, routerMAC, with(other4, func(h *packet.IP) { h.Offset = 64 }).Packet(packet.TCPv4, big(64))), xdpPass, "pass no vip 1"},
		{"RST of no flow", packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 9, Dst: 80, Flags: packet.RST}.Segment(to4, nil)), xdpTX, "-"},
		{"ACK of no flow", packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 10, Dst: 80, Flags: packet.ACK}.Segment(to4, nil)), xdpTX, "adopted 1"},
	} {
		r.forget()
		// A flow that stands already, in both families.
		for _, ip := range []packet.IP{to4, to6} {
			r.send(tcp80(ip, packet.SYN, nil))
			r.send(packet.Frame(boxMAC, routerMAC, seg.Segment(ip, nil)))
		}
		r.grown(since)
		got := r.send(c.frame)
		if s := r.grown(since); got.Verdict != c.verdict || s != c.counted {
			t.Errorf("%s: verdict %d, counted %q; want %d, %q", c.name, got.Verdict, s, c.verdict, c.counted)
		}
		if got.Verdict == xdpPass {
			if d := packet.Diff(c.frame, got.Packet); d != "" {
				t.Errorf("%s: passed but changed:\n%s", c.name, d)
			}
		}
	}
}
