package lease

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// Verdicts of the program.
const (
	passed     = 0xffffffff // TC_ACT_UNSPEC: not for a service
	dropped    = 2
	redirected = 7
)

// room is what goes in front of an IP packet over IPv4, the first Ethernet header included.
const room = 14 + overlay.Overhead4

var (
	client4, client6 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	to4, to6         = netip.MustParseAddr(service4), netip.MustParseAddr(service6)
)

// frame is an IP packet as the device's egress sees it.
func frame(ip []byte) []byte {
	mac := packet.MAC(overlay.MAC())
	return packet.Frame(mac, mac, ip)
}

// TestProgramTakesPackets runs the program on packets of all sorts: what it sends on is the packet, unchanged, inside
// VXLAN to a leased host; what is malformed is dropped, what is not for a service left alone.
func TestProgramTakesPackets(t *testing.T) {
	l := newLab(t, 2, nil)
	l.lend(t, "10.0.0.1%d", time.Minute, 0, 1)
	prog := l.data.loaded.Programs["lease_egress"]
	ip4, ip6 := packet.IP{Src: client4, Dst: to4, TOS: 0xb8}, packet.IP{Src: client6, Dst: to6}
	syn := packet.TCP{Src: 1000, Dst: 80, Flags: packet.SYN}
	udp := packet.UDP{Src: 1000, Dst: 9000}
	fragment := func(ip packet.IP, offset int, more bool) packet.IP {
		ip.Offset, ip.MF, ip.ID = offset, more, 7
		return ip
	}
	echo := packet.ICMP{Type: 8}.Message(ip4, []byte("ping"))
	cases := []struct {
		name    string
		frame   []byte
		verdict uint32
	}{
		{"TCP", frame(syn.Segment(ip4, nil)), redirected},
		{"TCP over IPv6", frame(syn.Segment(ip6, nil)), redirected},
		{"UDP", frame(udp.Datagram(ip4, []byte("question"))), redirected},
		{"echo", frame(echo), redirected},
		{"IP options", frame(syn.Segment(packet.IP{Src: client4, Dst: to4, Options: []byte{1, 1, 1, 0}}, nil)), redirected},
		{"another protocol", frame(ip4.Packet(253, []byte("whatever"))), redirected},
		{"later fragment, nobody saw the first", frame(fragment(ip4, 8, true).Packet(packet.UDPv4, make([]byte, 8))), dropped},
		{"first fragment", frame(udp.Datagram(fragment(ip4, 0, true), make([]byte, 32))), redirected},
		{"later fragment", frame(fragment(ip4, 40, false).Packet(packet.UDPv4, make([]byte, 8))), redirected},
		{"first fragment of IPv6", frame(udp.Datagram(fragment(ip6, 0, true), make([]byte, 32))), redirected},
		{"later fragment of IPv6", frame(fragment(ip6, 40, false).Packet(packet.UDPv4, make([]byte, 8))), redirected},
		{"another address", frame(syn.Segment(packet.IP{Src: client4, Dst: netip.MustParseAddr("192.0.2.81")}, nil)), passed},
		{"not IP", packet.Ethernet(packet.MAC{}, packet.MAC{}, 0x0806, make([]byte, 28)), passed},
		{"truncated TCP", frame(syn.Segment(ip4, nil))[:40], dropped},
		{"truncated UDP", frame(udp.Datagram(ip4, nil))[:36], dropped},
		{"header length below 20", spoil(frame(syn.Segment(ip4, nil)), 14, 0x44), dropped},
		{"another version", spoil(frame(syn.Segment(ip4, nil)), 14, 0x65), dropped},
	}
	var wire [][]byte
	for _, tt := range cases {
		r, err := bpf.TestRun(prog, bpf.Run{Packet: tt.frame})
		check(t, err)
		if r.Verdict != tt.verdict {
			t.Errorf("%s: verdict %d, want %d", tt.name, int32(r.Verdict), int32(tt.verdict))
			continue
		}
		if r.Verdict != redirected {
			if r.Verdict == passed && !bytes.Equal(r.Packet, tt.frame) {
				t.Errorf("%s: a packet that is left alone was changed", tt.name)
			}
			continue
		}
		wire = append(wire, r.Packet)
		if len(r.Packet) < room || !bytes.Equal(r.Packet[room:], tt.frame[14:]) {
			t.Errorf("%s: the packet was changed: %s", tt.name, packet.Diff(tt.frame[14:], r.Packet[min(room, len(r.Packet)):]))
			continue
		}
		h, inner, err := overlay.Parse(r.Packet[14+20+8:])
		if err != nil || h != (overlay.Header{VNI: 7, Epoch: 1}) || !bytes.Equal(inner[:6], overlay.MAC()) || bytes.Equal(inner[6:12], overlay.MAC()) {
			t.Errorf("%s: %+v, %v, inner frame % x", tt.name, h, err, inner[:14])
		}
		if packet.Checksum(r.Packet[14:34]) != 0 {
			t.Errorf("%s: the outer header's checksum is wrong", tt.name)
		}
		if inner, outer := tt.frame[15], r.Packet[15]; tt.frame[12] == 8 && inner != outer {
			t.Errorf("%s: traffic class %#x became %#x", tt.name, inner, outer)
		}
	}
	decode(t, wire)
}

// TestNeighbouringPortsSpread: a client's consecutive ports go to all producers, whatever the key.
func TestNeighbouringPortsSpread(t *testing.T) {
	const producers, keys, flows = 4, 400, 64
	l := newLab(t, producers, nil)
	l.lend(t, "10.0.0.1%d", time.Minute, 0, 1, 2, 3)
	prog := l.data.loaded.Programs["lease_egress"]
	r := rand.New(rand.NewPCG(1, 2))
	for k := range keys {
		var key cHashKey
		for i := range key.Line {
			key.Line[i], key.Print[i] = r.Uint64(), r.Uint64()
		}
		check(t, l.data.loaded.Maps["lease_key"].Put(uint32(0), key))
		at := map[netip.Addr]int{}
		for i := range flows {
			// Linux takes every other port for connections.
			syn := packet.TCP{Src: uint16(20000 + 2*i), Dst: 80, Flags: packet.SYN}.Segment(packet.IP{Src: client4, Dst: to4}, nil)
			out, err := bpf.TestRun(prog, bpf.Run{Packet: frame(syn)})
			check(t, err)
			if out.Verdict != redirected {
				t.Fatalf("key %d: verdict %d", k, int32(out.Verdict))
			}
			at[netip.AddrFrom4([4]byte(out.Packet[14+16:]))]++
		}
		if len(at) < producers {
			t.Errorf("key %d: %d connections of one client go to %v", k, flows, at)
		}
	}
}

func spoil(frame []byte, at int, value byte) []byte {
	frame[at] = value
	return frame
}

// decode has tshark read what the program wrote: every layer must be there, by name and value.
func decode(t *testing.T, frames [][]byte) {
	t.Helper()
	pcap := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	pcap = append(pcap, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0)
	for _, f := range frames {
		pcap = append(pcap, make([]byte, 8)...)
		pcap = binary.LittleEndian.AppendUint32(pcap, uint32(len(f)))
		pcap = binary.LittleEndian.AppendUint32(pcap, uint32(len(f)))
		pcap = append(pcap, f...)
	}
	file := filepath.Join(t.TempDir(), "wire.pcap")
	check(t, os.WriteFile(file, pcap, 0o600))
	var errors bytes.Buffer
	cmd := exec.Command("tshark", "-r", file, "-T", "fields", "-e", "vxlan.vni", "-e", "vxlan.gbp", "-e", "udp.dstport", "-e", "ip.dst", "-e", "ipv6.dst", "-e", "_ws.malformed")
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark (in the Makefile's TEST_TOOLS): %v: %s", err, errors.String())
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) != len(frames) {
		t.Fatalf("tshark read %d of %d packets:\n%s", len(lines), len(frames), out)
	}
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 6 || f[0] != "7" || f[1] != "1" || !strings.HasPrefix(f[2], "4789") ||
			!strings.HasPrefix(f[3], "10.0.0.1") || (!strings.Contains(f[3], service4) && f[4] != service6) || f[5] != "" {
			t.Errorf("tshark reads %q", line)
		}
	}
}

// FuzzProgram: whatever the packet, it is passed unchanged, dropped, or inside VXLAN unchanged.
func FuzzProgram(f *testing.F) {
	ip := packet.IP{Src: client4, Dst: to4}
	f.Add(frame(packet.TCP{Src: 1, Dst: 2, Flags: packet.SYN}.Segment(ip, nil)))
	f.Add(frame(packet.UDP{Src: 1, Dst: 2}.Datagram(packet.IP{Src: client6, Dst: to6, MF: true}, make([]byte, 16))))
	f.Add(frame(packet.ICMP{Type: 3, Code: 4}.Message(ip, packet.TCP{Src: 80, Dst: 1000}.Segment(packet.IP{Src: to4, Dst: client4}, nil))))
	l := newLab(f, 1, nil)
	l.lend(f, "10.0.0.1%d", time.Hour, 0)
	prog := l.data.loaded.Programs["lease_egress"]
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 14 || len(b) > 1500 {
			return // the kernel hands no such frame to a program
		}
		r, err := bpf.TestRun(prog, bpf.Run{Packet: b})
		if err != nil {
			return // a frame that test_run refuses
		}
		switch r.Verdict {
		case passed, dropped:
			if !bytes.Equal(r.Packet, b) {
				t.Fatalf("verdict %d, and the packet was changed", r.Verdict)
			}
		case redirected:
			if len(r.Packet) != len(b)+overlay.Overhead4 || !bytes.Equal(r.Packet[room:], b[14:]) {
				t.Fatalf("the packet was changed: %s", packet.Diff(b[14:], r.Packet[room:]))
			}
		default:
			t.Fatalf("verdict %d", r.Verdict)
		}
	})
}
