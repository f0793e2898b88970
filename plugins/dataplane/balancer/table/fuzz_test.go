package table

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// FuzzBalance: whatever comes, the program ends with a verdict; what it sends on is valid and holds the client's packet
// unchanged, what it passes is unchanged, and what it answers is valid.
func FuzzBalance(f *testing.F) {
	r := newRig(f, Options{}, 5)
	r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80, Exhausted: Reset}, VIP{Address: vip6, Protocol: Any, First: 0, Last: 65535},
		VIP{Address: vip4, Protocol: QUIC, First: 443, Last: 443})
	list := backends(3)
	list[0].Encapsulation, list[1].Encapsulation = GUE, VXLAN
	r.setBackends(list...)
	for _, v := range r.vips {
		r.setRing(v, spread(r.backends, 64))
	}
	for _, b := range r.backends {
		r.setCredit(b, Credit{Unlimited: true})
	}
	for _, ip := range []packet.IP{to4, to6} {
		f.Add(tcp80(ip, packet.SYN, nil))
		f.Add(tcp80(ip, packet.ACK, big(1470)))
		f.Add(packet.Frame(boxMAC, routerMAC, packet.UDP{Src: 5, Dst: 443}.Datagram(ip, big(40))))
		f.Add(packet.Frame(boxMAC, routerMAC, packet.ICMP{Type: 3 - uint8(ip.Dst.BitLen()/128), Rest: 1400}.Message(ip, tcp80(packet.IP{Src: ip.Dst, Dst: ip.Src}, packet.ACK, big(60))[14:])))
		fragment := ip
		fragment.MF, fragment.ID = true, 7
		f.Add(tcp80(fragment, packet.SYN, big(64)))
	}
	options := to4
	options.Options = make([]byte, 40)
	f.Add(tcp80(options, packet.SYN, nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 14 || len(in) > 2000 {
			return
		}
		res, err := bpf.TestRun(r.Program(), bpf.Run{Packet: in})
		if err != nil {
			t.Fatal(err)
		}
		switch res.Verdict {
		case xdpDrop:
		case xdpPass:
			if !bytes.Equal(res.Packet, in) {
				t.Fatalf("passed but changed:\n%s", packet.Diff(in, res.Packet))
			}
		case xdpTX:
			if err := packet.Check(res.Packet); err != nil {
				t.Fatalf("sent: %v\n% x", err, res.Packet)
			}
			answer := len(res.Packet) <= len(in) || !bytes.HasSuffix(res.Packet, in[14:])
			if answer && binary.BigEndian.Uint16(res.Packet[12:]) == 0x0800 && res.Packet[23] != packet.TCPv4 && res.Packet[23] != packet.ICMPv4 {
				t.Fatalf("neither the client's packet inside a tunnel nor an answer:\n% x", res.Packet)
			}
		default:
			t.Fatalf("verdict %d", res.Verdict)
		}
	})
}
