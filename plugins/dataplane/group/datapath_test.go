package group

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

const (
	actPass     = 0xffffffff // TC_ACT_UNSPEC: the next program's
	actDrop     = 2
	actRedirect = 7
)

var anyWay Way = func(host netip.Addr) (overlay.Path, error) {
	source := netip.MustParseAddr("192.0.2.1")
	if host.Is6() {
		source = netip.MustParseAddr("2001:db8:ffff::1")
	}
	return overlay.Path{Index: 1, Source: source}, nil
}

func open(t testing.TB, o DatapathOptions) *Datapath {
	t.Helper()
	d, err := OpenDatapath(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	d.Confirm(bpf.BootNow() + uint64(time.Hour))
	return d
}

func set(t testing.TB, d *Datapath, g *Group) {
	t.Helper()
	if unreachable, err := d.Set(g, anyWay); unreachable != nil || err != nil {
		t.Fatal(unreachable, err)
	}
}

// members makes n members that serve, on hosts 192.0.2.(10+i).
func members(n int) []Member {
	var all []Member
	for i := range n {
		all = append(all, Member{
			Name: fmt.Sprintf("m%d", i), Slot: uint16(i), Generation: 1, Weight: 1, VNI: uint32(1000 + i),
			Location: Location{Underlay: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}), MAC: [6]byte{2, 0, 0, 0, 0, byte(i)}, Epoch: uint16(i)},
		})
	}
	return all
}

func web(n int) *Group {
	return &Group{ID: 1, Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("2001:db8:9::1")}, Changed: 1, Members: members(n)}
}

func outcomes(t testing.TB, d *Datapath) map[string]uint64 {
	t.Helper()
	all, err := d.Outcomes()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for i, name := range OutcomeNames() {
		out[name] = all[i]
	}
	return out
}

func run(t testing.TB, d *Datapath, packet []byte) (uint32, []byte) {
	t.Helper()
	r, err := bpf.TestRun(d.Program(), bpf.Run{Packet: packet})
	if err != nil {
		t.Fatal(err)
	}
	return r.Verdict, r.Packet
}

// to sends a packet and returns the slot of the member that got it.
func to(t testing.TB, d *Datapath, packet []byte) int {
	t.Helper()
	verdict, out := run(t, d, packet)
	if verdict != actRedirect {
		t.Fatalf("verdict %d; outcomes %v", int32(verdict), outcomes(t, d))
	}
	s := parse(t, out)
	if !bytes.Equal(s.inner, packet[12:]) {
		t.Fatalf("the packet was changed:\n% x\n% x", packet[12:], s.inner)
	}
	return int(s.vxlan.VNI) - 1000
}

func TestProgramEncapsulates(t *testing.T) {
	d := open(t, DatapathOptions{})
	g := web(3)
	g.Members[1].Underlay = netip.MustParseAddr("2001:db8:ffff::11")
	set(t, d, g)
	seen := map[int]int{}
	for sport := range uint16(60) {
		for _, p := range [][]byte{tcp("10.9.0.1", sport, syn), tcp("2001:db8:9::1", sport, syn), udp("10.9.0.1", sport), udp("2001:db8:9::1", sport)} {
			_, out := run(t, d, p)
			s := parse(t, out)
			m := g.Members[s.vxlan.VNI-1000]
			if s.to != m.Underlay || s.mac != m.MAC || s.vxlan.Epoch != m.Epoch || !bytes.Equal(s.inner, p[12:]) {
				t.Fatalf("sent %+v, member %+v", s, m)
			}
			seen[int(m.Slot)]++
		}
	}
	for i := range 3 {
		if seen[i] < 40 {
			t.Errorf("240 flows over 3 members: %v", seen)
		}
	}
	for name, p := range map[string][]byte{
		"another address": tcp("10.9.0.2", 1, syn),
		"ARP":             append(append(overlay.MAC(), overlay.MAC()...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1),
	} {
		if verdict, _ := run(t, d, p); verdict != actPass {
			t.Errorf("%s: verdict %d, want the next program's", name, int32(verdict))
		}
	}
	if n := outcomes(t, d)["sent"]; n != 240 {
		t.Errorf("%d sent, want 240", n)
	}
	var packets, flows uint64
	for _, c := range d.Counts()[1] {
		packets, flows = packets+c.Packets, flows+c.Flows
	}
	if packets != 240 || flows != 240 {
		t.Errorf("counted %d packets, %d flows, want 240 of both", packets, flows)
	}
}

func TestProgramKeepsFlows(t *testing.T) {
	d := open(t, DatapathOptions{})
	g := web(10)
	set(t, d, g)
	const flows = 2000
	at := make([]int, flows)
	for i := range flows {
		at[i] = to(t, d, tcp("10.9.0.1", uint16(i), syn))
		to(t, d, tcp("10.9.0.1", uint16(i), ack))
	}
	moved := func() (n int, onto map[int]int) {
		onto = map[int]int{}
		for i := range flows {
			if now := to(t, d, tcp("10.9.0.1", uint16(i), ack)); now != at[i] {
				n, at[i] = n+1, now
				onto[now]++
			}
		}
		return n, onto
	}
	of := func(slot int) (n int) {
		for _, m := range at {
			if m == slot {
				n++
			}
		}
		return n
	}
	change := func(f func(*Group)) {
		g = g.clone()
		g.Changed++
		f(g)
		set(t, d, g)
	}

	change(func(g *Group) { g.Members[3].State = Draining; g.Members[4].Weight = 50 })
	change(func(g *Group) { g.Members = append(g.Members, members(12)[10:]...) })
	if n, _ := moved(); n != 0 {
		t.Errorf("%d of %d flows moved although their members are there", n, flows)
	}
	for i := range 200 {
		if to(t, d, udp("10.9.0.1", uint16(i))) == 3 {
			t.Fatal("a draining member got a new flow")
		}
	}
	change(func(g *Group) { g.Members[3].State = Serving })

	// Down: exactly the flows of that member move, and never onto it.
	want := of(5)
	change(func(g *Group) { g.Members[5].State, g.Members[5].Generation = Down, 2 })
	if n, onto := moved(); n != want || onto[5] != 0 {
		t.Errorf("%d flows moved, %d onto the member that is down; it had %d", n, onto[5], want)
	}
	// Back again: it has no old flows.
	change(func(g *Group) { g.Members[5].State = Serving })
	if n, _ := moved(); n != 0 {
		t.Errorf("%d flows moved back", n)
	}
	// Removed, and the slot given to another.
	want = of(2)
	change(func(g *Group) { g.Members[2].Generation, g.Members[2].VNI = 2, 1777; g.Members[2].State = Draining })
	if n, onto := moved(); n != want || onto[777] != 0 {
		t.Errorf("%d flows moved, %d onto the slot's next owner; %d were its last's", n, onto[777], want)
	}
	// The same VNI elsewhere keeps its flows.
	change(func(g *Group) {
		g.Members[7].Underlay, g.Members[7].Epoch = netip.MustParseAddr("192.0.2.99"), 9
	})
	if n, _ := moved(); n != 0 {
		t.Errorf("%d flows moved with a fail-over", n)
	}
	if n := outcomes(t, d)["uncached"]; n != 0 {
		t.Errorf("%d packets without a place in the table", n)
	}
}

// TestProgramGuardsFlows: a flood of SYNs, of packets without a connection, and more flows than places.
func TestProgramGuardsFlows(t *testing.T) {
	d := open(t, DatapathOptions{Flows: 1024})
	g := web(10)
	set(t, d, g)
	const flows = 512 // half of the table
	at := make([]int, flows)
	for i := range flows {
		at[i] = to(t, d, tcp("10.9.0.1", uint16(i), syn))
		to(t, d, tcp("10.9.0.1", uint16(i), ack))
	}
	for i := range 20000 {
		to(t, d, tcp("10.9.0.1", uint16(1000+i), syn))
	}
	for i := range 20000 {
		to(t, d, tcp("10.9.0.1", uint16(30000+i), ack))
	}
	// Every member's ring share changes now: whoever lost its entry would move.
	g = g.clone()
	g.Changed++
	for i := range g.Members {
		g.Members[i].State = Draining
	}
	g.Members = append(g.Members, members(11)[10])
	set(t, d, g)
	moved := 0
	for i := range flows {
		if to(t, d, tcp("10.9.0.1", uint16(i), ack)) != at[i] {
			moved++
		}
	}
	if moved != 0 {
		t.Errorf("%d of %d flows lost their member to a flood", moved, flows)
	}
	if outcomes(t, d)["uncached"] == 0 {
		t.Error("nobody went without a place, so the flood was none")
	}
}

// TestProgramForgetsClosed: a connection that its client has closed gives way to new ones from then on, with whatever the
// client still acknowledges; data and another SYN make it one that lives.
func TestProgramForgetsClosed(t *testing.T) {
	const at4, at6 = "10.9.0.1", "2001:db8:9::1"
	d := open(t, DatapathOptions{Flows: 64})
	set(t, d, web(10))
	flows := d.loaded.Maps["group_flows"]
	lines := flows.MaxEntries()
	const data = 0x80 // beside the flags
	for _, c := range []struct {
		name  string
		sends []byte
		stays bool
	}{
		{"closed, last ACK", []byte{syn, ack, fin | ack, ack}, false},
		{"closed, many ACKs", []byte{syn, ack, fin | ack, ack, ack, ack}, false},
		{"reset", []byte{syn, ack, rst, ack}, false},
		{"closed, its beginning not seen", []byte{fin | ack, ack}, false},
		{"opened", []byte{syn, ack}, true},
		{"closed, port used again", []byte{syn, ack, fin | ack, ack, syn, ack}, true},
		{"data after a FIN", []byte{syn, ack, fin | ack, ack | data}, true},
		{"SYN repeated", []byte{syn, ack, syn}, true},
	} {
		for _, address := range []string{at4, at6} {
			for i := range lines {
				if err := flows.Put(i, [8]uint64{}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range uint16(2000) { // more than there are places
				for _, flags := range c.sends {
					payload := ""
					if flags&data != 0 {
						payload = "more"
					}
					to(t, d, segment(address, i, flags&^data, payload))
				}
			}
			before := outcomes(t, d)["uncached"]
			for i := range uint16(500) {
				to(t, d, segment(address, 5000+i, syn, ""))
			}
			if full := outcomes(t, d)["uncached"] != before; full != c.stays {
				t.Errorf("%s, to %s: new connections found no place: %t", c.name, address, full)
			}
		}
	}
}

func TestProgramLease(t *testing.T) {
	d := open(t, DatapathOptions{})
	open := &Group{ID: 2, Name: "dns", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.2")}, Policy: Open, Changed: 2, Members: members(1)}
	set(t, d, web(1))
	set(t, d, open)
	d.lease.Elems[0].until = bpf.BootNow() - 1
	if verdict, _ := run(t, d, tcp("10.9.0.1", 1, ack)); verdict != actDrop {
		t.Errorf("verdict %d for a closed group after the lease", int32(verdict))
	}
	to(t, d, tcp("10.9.0.2", 1, ack))
	o := outcomes(t, d)
	if o["unconfirmed"] != 1 || o["unconfirmed-passed"] != 1 {
		t.Errorf("outcomes %v", o)
	}
	d.Confirm(bpf.BootNow() + uint64(time.Minute))
	to(t, d, tcp("10.9.0.1", 1, ack))
	if left := d.Left(); left <= 50*time.Second || left > time.Minute {
		t.Errorf("%s left of a minute", left)
	}
	d.Confirm(bpf.BootNow()) // an answer that came late takes nothing back
	to(t, d, tcp("10.9.0.1", 1, ack))
}

// TestProgramFragments: later fragments go where the first went, which is where the flow is.
func TestProgramFragments(t *testing.T) {
	d := open(t, DatapathOptions{})
	set(t, d, web(10))
	fragment := func(id, off uint16, l4 []byte) []byte {
		return frame("10.9.0.1", 17, l4, func(ip []byte) {
			binary.BigEndian.PutUint16(ip[4:], id)
			binary.BigEndian.PutUint16(ip[6:], off)
		})
	}
	fragment6 := func(id uint32, off uint16, l4 []byte) []byte {
		h := binary.BigEndian.AppendUint32([]byte{17, 0, byte(off >> 8), byte(off)}, id)
		return frame("2001:db8:9::1", 44, append(h, l4...), nil)
	}
	for sport := range uint16(50) {
		whole := to(t, d, udp("10.9.0.1", sport))
		l4 := udp("10.9.0.1", sport)[34:]
		if first, later := to(t, d, fragment(sport, 0x2000, l4)), to(t, d, fragment(sport, 0x0010, l4)); first != whole || later != whole {
			t.Fatalf("flow at member %d, its first fragment at %d, the second at %d", whole, first, later)
		}
		whole = to(t, d, udp("2001:db8:9::1", sport))
		if first, later := to(t, d, fragment6(uint32(sport), 1, l4)), to(t, d, fragment6(uint32(sport), 8, l4)); first != whole || later != whole {
			t.Fatalf("flow at member %d, its first fragment at %d, the second at %d", whole, first, later)
		}
	}
	if verdict, _ := run(t, d, fragment(999, 0x0010, []byte("12345678"))); verdict != actDrop {
		t.Errorf("verdict %d for a fragment without a first", int32(verdict))
	}
}

// TestProgramICMPErrors: what a client says about a member's packet goes to that member.
func TestProgramICMPErrors(t *testing.T) {
	d := open(t, DatapathOptions{})
	set(t, d, web(10))
	for sport := range uint16(50) {
		for _, address := range []string{"10.9.0.1", "2001:db8:9::1"} {
			flow := tcp(address, sport, syn)
			want := to(t, d, flow)
			// The packet that the error quotes: from the group's address to the client.
			var icmp []byte
			if quoted := bytes.Clone(flow[14:]); quoted[0] == 0x45 {
				copy(quoted[12:], flow[30:34])
				copy(quoted[16:], flow[26:30])
				swapPorts(quoted[20:])
				icmp = frame(address, 1, append([]byte{3, 4, 0, 0, 0, 0, 5, 0}, quoted[:28]...), nil)
			} else {
				copy(quoted[8:], flow[38:54])
				copy(quoted[24:], flow[22:38])
				swapPorts(quoted[40:])
				icmp = frame(address, 58, append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, quoted[:48]...), nil)
			}
			if got := to(t, d, icmp); got != want {
				t.Fatalf("flow at member %d, the error about it at %d", want, got)
			}
		}
	}
}

func swapPorts(l4 []byte) {
	l4[0], l4[1], l4[2], l4[3] = l4[2], l4[3], l4[0], l4[1]
}

// FuzzProgram: whatever the bytes, a packet leaves whole, in a correct outer packet, or not at all.
func FuzzProgram(f *testing.F) {
	d := open(f, DatapathOptions{})
	set(f, d, web(3))
	f.Add(tcp("10.9.0.1", 1, syn))
	f.Add(udp("2001:db8:9::1", 1))
	f.Add(frame("10.9.0.1", 1, append([]byte{3, 4, 0, 0, 0, 0, 5, 0}, make([]byte, 28)...), nil))
	f.Add(frame("10.9.0.1", 17, make([]byte, 8), func(ip []byte) { ip[6] = 0x20 }))
	f.Add(frame("10.9.0.1", 6, nil, func(ip []byte) { ip[0] = 0x4f }))
	f.Add(frame("2001:db8:9::1", 44, make([]byte, 9), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 14 || len(b) > 1500 {
			return // the kernel runs nothing on less than an Ethernet header
		}
		r, err := bpf.TestRun(d.Program(), bpf.Run{Packet: b})
		if err != nil {
			return // refused by the kernel before the program ran
		}
		switch r.Verdict {
		case actPass:
			if !bytes.Equal(r.Packet, b) {
				t.Fatalf("left to the next program and changed")
			}
		case actRedirect:
			if s := parse(t, r.Packet); !bytes.Equal(s.inner, b[12:]) {
				t.Fatalf("sent and changed")
			}
		case actDrop:
		default:
			t.Fatalf("verdict %d", r.Verdict)
		}
	})
}

func TestDatapathErrors(t *testing.T) {
	d := open(t, DatapathOptions{Groups: 2})
	g := web(2)
	unreachable, err := d.Set(g, func(host netip.Addr) (overlay.Path, error) {
		if host == g.Members[0].Underlay {
			return overlay.Path{}, fmt.Errorf("find the way to %s: network is unreachable", host)
		}
		return anyWay(host)
	})
	if err != nil || unreachable == nil || !strings.Contains(unreachable.Error(), "member m0 of group web") {
		t.Errorf("a member without a way: %v, %v", unreachable, err)
	}
	for i := range uint16(100) {
		if to(t, d, udp("10.9.0.1", i)) != 1 {
			t.Fatal("a member without a way got a flow")
		}
	}
	for id := uint32(2); id <= 3; id++ {
		_, err = d.Set(&Group{ID: id, Name: fmt.Sprintf("g%d", id), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(id)})}, Changed: 1}, anyWay)
	}
	if err == nil || !strings.Contains(err.Error(), "room for 2 groups") {
		t.Errorf("a third group in two rows: %v", err)
	}
	if verdict, _ := run(t, d, udp("10.9.0.2", 1)); verdict != actDrop {
		t.Errorf("verdict %d of a group without members", int32(verdict))
	}
	if err := d.Remove(1); err != nil {
		t.Fatal(err)
	}
	if verdict, _ := run(t, d, udp("10.9.0.1", 1)); verdict != actPass {
		t.Errorf("verdict %d for a group that is gone", int32(verdict))
	}
	set(t, d, &Group{ID: 3, Name: "g3", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.3")}, Changed: 5, Members: members(1)})
	to(t, d, udp("10.9.0.3", uint16(rand.Uint32())))
}
