package decap

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

const (
	xdpDrop = 1
	xdpPass = 2
)

var (
	vip4    = netip.MustParseAddr("192.0.2.80")
	vip6    = netip.MustParseAddr("2001:db8::80")
	client4 = netip.MustParseAddr("198.51.100.7")
	client6 = netip.MustParseAddr("2001:db8:1::7")
	lb4     = netip.MustParseAddr("10.0.0.1")
	lb6     = netip.MustParseAddr("fd00::1")
	host4   = netip.MustParseAddr("10.1.0.1")
	host6   = netip.MustParseAddr("fd00::9")
	boxMAC  = packet.MAC{2, 0, 0, 0, 0, 1}
	hostMAC = packet.MAC{2, 0, 0, 0, 0, 3}
)

func open(t testing.TB, o Options) *Program {
	t.Helper()
	p, err := Open(o)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(p.Close)
	return p
}

func inner(six bool, tos uint8) []byte {
	ip := packet.IP{Src: client4, Dst: vip4, TOS: tos, TTL: 63}
	if six {
		ip = packet.IP{Src: client6, Dst: vip6, TOS: tos, TTL: 63}
	}
	return packet.TCP{Src: 4000, Dst: 80, Flags: packet.ACK}.Segment(ip, []byte("hello"))
}

func frame(ip []byte) []byte { return packet.Frame(hostMAC, boxMAC, ip) }

// tunnels are all ways in which an inner packet may come.
func tunnels(in []byte, change func(*packet.IP)) map[string][]byte {
	all := make(map[string][]byte)
	for _, h := range []packet.IP{{Src: lb4, Dst: host4}, {Src: lb6, Dst: host6}} {
		if change != nil {
			change(&h)
		}
		protocol := uint8(packet.IPIP)
		if in[0]>>4 == 6 {
			protocol = packet.IPv6
		}
		name := fmt.Sprintf("over %v", h.Src)
		all["ipip "+name] = frame(h.Packet(protocol, in))
		all["gue "+name] = frame(packet.UDP{Src: 50000, Dst: 6080, NoChecksum: true}.Datagram(h, in))
		carried := packet.VXLAN(77, packet.Frame(packet.MAC{}, packet.MAC{}, in))
		all["vxlan "+name] = frame(packet.UDP{Src: 50000, Dst: 4789, NoChecksum: true}.Datagram(h, carried))
	}
	return all
}

// TestTunnels: the kernel gets the client's packet, every byte of it.
func TestTunnels(t *testing.T) {
	p := open(t, Options{})
	for _, six := range []bool{false, true} {
		in := inner(six, 0x28)
		for name, f := range tunnels(in, nil) {
			r, err := bpf.TestRun(p.XDP(), bpf.Run{Packet: f})
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != xdpPass {
				t.Errorf("%s: verdict %d", name, r.Verdict)
			}
			if d := packet.Diff(frame(in), r.Packet); d != "" {
				t.Errorf("%s, IPv6 %v:\n%s", name, six, d)
			}
		}
	}
	if c, err := p.Counters(); err != nil || c[0].Packets != 12 {
		t.Errorf("counted %v, %v", c, err)
	}
}

// TestCongestion: a mark that the outer header got on its way is handed on, RFC 6040.
func TestCongestion(t *testing.T) {
	p := open(t, Options{})
	mark := func(h *packet.IP) { h.TOS = 3 }
	for _, six := range []bool{false, true} {
		for name, f := range tunnels(inner(six, 2), mark) {
			r, err := bpf.TestRun(p.XDP(), bpf.Run{Packet: f})
			if err != nil {
				t.Fatal(err)
			}
			if d := packet.Diff(frame(inner(six, 3)), r.Packet); d != "" || r.Verdict != xdpPass {
				t.Errorf("%s, IPv6 %v: verdict %d\n%s", name, six, r.Verdict, d)
			}
		}
		for name, f := range tunnels(inner(six, 0), mark) { // this sender would not understand the mark
			if r, err := bpf.TestRun(p.XDP(), bpf.Run{Packet: f}); err != nil || r.Verdict != xdpDrop {
				t.Errorf("%s, no ECN: verdict %d, %v", name, r.Verdict, err)
			}
		}
	}
}

// TestRefused: what is a tunnel's but not in order is dropped, what is no tunnel passes untouched.
func TestRefused(t *testing.T) {
	strict := Options{
		Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::1/128")},
		VIPs:    []netip.Addr{vip4, vip6},
	}
	in4, in6 := inner(false, 0), inner(true, 0)
	outer := packet.IP{Src: lb4, Dst: host4}
	ipip := func(in []byte) []byte { return frame(outer.Packet(packet.IPIP, in)) }
	udp := func(port uint16, body []byte) []byte {
		return frame(packet.UDP{Src: 50000, Dst: port, NoChecksum: true}.Datagram(outer, body))
	}
	change := func(b []byte, at int, v ...byte) []byte {
		b = slices.Clone(b)
		copy(b[at:], v)
		return b
	}
	from := func(a string) []byte {
		return frame(packet.IP{Src: netip.MustParseAddr(a), Dst: host4}.Packet(packet.IPIP, in4))
	}
	other := packet.TCP{Src: 1, Dst: 2}.Segment(packet.IP{Src: client4, Dst: client4}, nil)
	for _, c := range []struct {
		name    string
		frame   []byte
		verdict uint32
	}{
		{"in order", ipip(in4), xdpPass},
		{"from another balancer of the prefix", from("10.0.0.200"), xdpPass},
		{"from a stranger", from("10.0.1.1"), xdpDrop},
		{"for somebody else", ipip(other), xdpDrop},
		{"inner cut off", ipip(in4[:len(in4)-3]), xdpDrop},
		{"inner header cut off", ipip(in4[:12]), xdpDrop},
		{"nothing inside", ipip(nil), xdpDrop},
		{"inner checksum", ipip(change(in4, 10, 1, 2)), xdpDrop},
		{"inner version", ipip(change(in4, 0, 0x55)), xdpDrop},
		{"inner header length", ipip(change(in4, 0, 0x44)), xdpDrop},
		{"IPv6 inside IPIP", ipip(in6), xdpDrop},
		{"IPv4 as IPv6", frame(outer.Packet(packet.IPv6, in4)), xdpDrop},
		{"inner IPv6 cut off", frame(outer.Packet(packet.IPv6, in6[:len(in6)-1])), xdpDrop},
		{"inner IPv6 header cut off", frame(outer.Packet(packet.IPv6, in6[:39])), xdpDrop},
		{"GUE variant 0", udp(6080, append([]byte{0, 4, 0, 0}, in4...)), xdpDrop},
		{"VXLAN without VNI", udp(4789, append(make([]byte, 8), frame(in4)...)), xdpDrop},
		{"VXLAN cut off", udp(4789, packet.VXLAN(1, nil)), xdpDrop},
		{"VXLAN with ARP", udp(4789, packet.VXLAN(1, packet.Ethernet(hostMAC, boxMAC, 0x806, make([]byte, 28)))), xdpDrop},
		{"UDP length", frame(packet.UDP{Src: 1, Dst: 6080, Length: 9}.Datagram(outer, in4)), xdpDrop},
		{"other UDP", udp(53, in4), xdpPass},
		{"TCP", frame(in4), xdpPass},
		{"ARP", packet.Ethernet(hostMAC, boxMAC, 0x806, make([]byte, 28)), xdpPass},
		{"fragment of a tunnel", frame(packet.IP{Src: lb4, Dst: host4, MF: true}.Packet(packet.IPIP, in4)), xdpPass},
	} {
		p := open(t, strict)
		r, err := bpf.TestRun(p.XDP(), bpf.Run{Packet: c.frame})
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != c.verdict {
			t.Errorf("%s: verdict %d, want %d", c.name, r.Verdict, c.verdict)
		}
	}
}

// FuzzDecapsulate: whatever comes, what the kernel is handed is a frame it was sent, or a whole packet out of one.
func FuzzDecapsulate(f *testing.F) {
	p := open(f, Options{})
	for _, six := range []bool{false, true} {
		for _, b := range tunnels(inner(six, 0), nil) {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 14 || len(in) > 1500 {
			return
		}
		r, err := bpf.TestRun(p.XDP(), bpf.Run{Packet: in})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Verdict != xdpDrop && r.Verdict != xdpPass:
			t.Fatalf("verdict %d", r.Verdict)
		case r.Verdict == xdpPass && len(r.Packet) != len(in):
			if err := packet.Check(r.Packet); err != nil {
				t.Fatalf("handed on: %v\n% x", err, r.Packet)
			}
		}
	})
}
