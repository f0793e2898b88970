package table

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// TestTooBig: the answer says what fits and quotes the packet; the sender's kernel can find its socket by it.
func TestTooBig(t *testing.T) {
	r := newRig(t, Options{}, 3)
	options := to4
	options.Options = make([]byte, 40) // as long as they can be: the ports are behind them
	for _, ip := range []packet.IP{to4, options, to6} {
		in := tcp80(ip, packet.SYN, nil)
		r.send(in)
		in = tcp80(ip, packet.ACK, big(1450))
		got := r.send(in)
		reply := packet.IP{Src: ip.Dst, Dst: ip.Src}
		m, quoted := packet.ICMP{Type: 3, Code: 4, Rest: 1480}, in[14:14+68]
		if ip.Dst.Is6() {
			m, quoted = packet.ICMP{Type: 2, Rest: 1480}, in[14:14+80]
		}
		if d := packet.Diff(packet.Frame(routerMAC, boxMAC, m.Message(reply, quoted)), got.Packet); d != "" {
			t.Errorf("%v:\n%s", ip.Src, d)
		}
	}
	// One that just fits goes.
	fits := tcp80(to4, packet.ACK, big(1500-20-20-20))
	if got := r.send(fits); got.Verdict != xdpTX || len(got.Packet) != 1514 {
		t.Errorf("1,480 bytes: verdict %d, %d bytes out", got.Verdict, len(got.Packet))
	}
}

// TestAnswersAreLimited: nobody makes the balancer a source of a flood.
func TestAnswersAreLimited(t *testing.T) {
	r := newRig(t, Options{Answers: 5}, 3)
	answered := 0
	start := bpf.Now() >> 30
	for range 50 {
		if r.send(tcp80(to4, packet.ACK, big(1450))).Verdict == xdpTX {
			answered++
		}
	}
	windows := int(bpf.Now()>>30-start) + 1
	if limit := 5 * windows * r.cpus; answered > limit || answered < 5 {
		t.Errorf("%d answers in %d s on %d CPUs", answered, windows, r.cpus)
	}
}

// TestICMPErrors: they go to the backend of the flow they are about, also after the ring would say otherwise.
func TestICMPErrors(t *testing.T) {
	r := newRig(t, Options{}, 20)
	router4, router6 := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:ffff::1")
	at4, at6 := r.to(r.send(tcp80(to4, packet.SYN, nil))), r.to(r.send(tcp80(to6, packet.SYN, nil)))
	for _, v := range r.vips {
		r.setRing(v, r.backends[:1])
	}
	back := packet.TCP{Src: 80, Dst: 4000, Flags: packet.ACK}
	q4 := back.Segment(packet.IP{Src: vip4, Dst: client4}, big(100))
	q6 := back.Segment(packet.IP{Src: vip6, Dst: client6}, big(100))
	for name, m := range map[string][]byte{
		"unreachable":          packet.ICMP{Type: 3, Code: 1}.Message(packet.IP{Src: router4, Dst: vip4}, q4[:28]),
		"fragmentation needed": packet.ICMP{Type: 3, Code: 4, Rest: 1400}.Message(packet.IP{Src: router4, Dst: vip4}, q4[:28]),
		"quoting options":      packet.ICMP{Type: 11}.Message(packet.IP{Src: router4, Dst: vip4}, back.Segment(packet.IP{Src: vip4, Dst: client4, Options: make([]byte, 8)}, nil)),
	} {
		if to := r.to(r.send(packet.Frame(boxMAC, routerMAC, m))); to != at4 {
			t.Errorf("%s went to %v, the flow is at %v", name, to, at4)
		}
	}
	for name, m := range map[string][]byte{
		"packet too big":     packet.ICMP{Type: 2, Rest: 1280}.Message(packet.IP{Src: router6, Dst: vip6}, q6),
		"quoting a fragment": packet.ICMP{Type: 2, Rest: 1280}.Message(packet.IP{Src: router6, Dst: vip6}, packet.IP{Src: vip6, Dst: client6, MF: true}.Packet(packet.TCPv4, q6[40:])),
	} {
		if to := r.to(r.send(packet.Frame(boxMAC, routerMAC, m))); to != at6 {
			t.Errorf("%s went to %v, the flow is at %v", name, to, at6)
		}
	}
}

// TestFragments: all of a packet go where its first one went; what overtakes the first is dropped.
func TestFragments(t *testing.T) {
	r := newRig(t, Options{}, 20)
	for i, ip := range []packet.IP{{Src: client4, Dst: vip4}, {Src: client6, Dst: vip6}} {
		whole := packet.TCP{Src: 4000, Dst: 80, Flags: packet.SYN}.Segment(ip, big(1000))
		body := whole[20+20*i:]
		piece := func(id uint32, from, to int) []byte {
			p := ip
			p.ID, p.Offset, p.MF = id, from, to < len(body)
			return packet.Frame(boxMAC, routerMAC, p.Packet(packet.TCPv4, body[from:to]))
		}
		for id := range uint32(30) {
			first := r.to(r.send(piece(id, 0, 512)))
			if !first.IsValid() {
				t.Fatalf("first fragment %d was not sent on", id)
			}
			if next := r.to(r.send(piece(id, 512, len(body)))); next != first {
				t.Errorf("%v: first fragment went to %v, next to %v", ip.Src, first, next)
			}
		}
		if res := r.send(piece(999, 512, len(body))); res.Verdict != xdpDrop {
			t.Errorf("%v: a fragment without a first: verdict %d", ip.Src, res.Verdict)
		}
	}
}

// TestUDP: a flow is remembered by its first packet, is worth keeping when it goes on later, and is forgotten sooner
// than one of TCP.
func TestUDP(t *testing.T) {
	r := newRig(t, Options{}, 10)
	r.setVIPs(VIP{Address: vip4, Protocol: UDP, First: 53, Last: 53})
	r.setRing(r.vips[0], spread(r.backends, 1024))
	send := func(i int) netip.Addr {
		return r.to(r.send(packet.Frame(boxMAC, routerMAC, packet.UDP{Src: uint16(1000 + i), Dst: 53}.Datagram(packet.IP{Src: client4, Dst: vip4}, big(20)))))
	}
	var at []netip.Addr
	for i := range 100 {
		at = append(at, send(i))
	}
	r.setRing(r.vips[0], r.backends[:1])
	for i := range at {
		if to := send(i); to != at[i] {
			t.Errorf("flow %d went to %v, then %v", i, at[i], to)
		}
	}
	if n := r.Count(); n.ByState != [4]int{0, 100, 0, 0} {
		t.Errorf("after one second at most: %+v", n)
	}
	for i := range r.shared.flows.Elems { // they began two seconds ago
		for s := range r.shared.flows.Elems[i].Entry {
			if e := &r.shared.flows.Elems[i].Entry[s]; *e != 0 {
				*e = *e&^(255<<23) | uint64(Tentative.seenAt(bpf.Now())-2)<<23
			}
		}
	}
	for i := range at {
		send(i)
	}
	if n := r.Count(); n.ByState != [4]int{0, 0, 0, 100} {
		t.Errorf("later: %+v", n)
	}
}

// TestQUIC: a short header's connection id names its server, whatever the client's address is by now; the first
// packets, and ids of another configuration, go by the flow.
func TestQUIC(t *testing.T) {
	r := newRig(t, Options{}, 0)
	list := backends(20)
	for i := range list {
		list[i].QUICServerID = uint16(100 + i)
	}
	r.setBackends(list...)
	r.setVIPs(VIP{Address: vip4, Protocol: QUIC, First: 443, Last: 443})
	r.setRing(r.vips[0], r.backends[:1])
	for _, b := range r.backends {
		r.setCredit(b, Credit{Unlimited: true})
	}
	ring := backendAddress(0)
	send := func(port uint16, header ...byte) netip.Addr {
		u := packet.UDP{Src: port, Dst: 443}
		return r.to(r.send(packet.Frame(boxMAC, routerMAC, u.Datagram(packet.IP{Src: client4, Dst: vip4}, append(header, big(30)...)))))
	}
	id := func(config byte, server uint16) []byte {
		return binary.BigEndian.AppendUint16([]byte{config << 5}, server)
	}
	short := func(b []byte) []byte { return append([]byte{0x40}, b...) }
	long := func(kind byte, version uint32, b []byte) []byte {
		h := binary.BigEndian.AppendUint32([]byte{0xc0 | kind<<4}, version)
		return slices.Concat(h, []byte{byte(len(b))}, b)
	}
	for port, c := range []struct {
		name   string
		header []byte
		want   netip.Addr
	}{
		{"short, of server 7", short(id(0, 107)), backendAddress(7)},
		{"the same from elsewhere", short(id(0, 107)), backendAddress(7)},
		{"short, of server 19", short(id(0, 119)), backendAddress(19)},
		{"unknown server", short(id(0, 999)), ring},
		{"another configuration", short(id(3, 107)), ring},
		{"handshake", long(2, 1, id(0, 105)), backendAddress(5)},
		{"initial: the id is the client's", long(0, 1, id(0, 105)), ring},
		{"0-RTT", long(1, 1, id(0, 105)), ring},
		{"another version", long(2, 2, id(0, 105)), ring},
		{"no fixed bit", append([]byte{0}, id(0, 105)...), ring},
	} {
		if to := send(uint16(2000+port), c.header...); to != c.want {
			t.Errorf("%s: went to %v, want %v", c.name, to, c.want)
		}
	}
}

// TestQUICServersChange: server ids that backends exchange, hand on or share are those of the last configuration.
func TestQUICServersChange(t *testing.T) {
	r := newRig(t, Options{}, 0)
	set := func(servers ...uint16) {
		list := backends(len(servers))
		for i, s := range servers {
			list[i].QUICServerID = s
		}
		list = slices.DeleteFunc(list, func(b Backend) bool { return b.QUICServerID == 9 }) // not there
		r.setBackends(list...)
	}
	of := func(server uint16) netip.Addr {
		id := BackendID(r.shared.servers.Elems[server/4] >> (server % 4 * 16))
		return address(r.shared.backends.Elems[id].Address, 4)
	}
	none := netip.AddrFrom4([4]byte{})
	a, b := backendAddress(0), backendAddress(1)
	for _, c := range []struct {
		servers [2]uint16
		want    [3]netip.Addr // of servers 1, 2 and 3
	}{
		{[2]uint16{1, 2}, [3]netip.Addr{a, b, none}},
		{[2]uint16{2, 1}, [3]netip.Addr{b, a, none}},
		{[2]uint16{3, 2}, [3]netip.Addr{none, b, a}},
		{[2]uint16{2, 3}, [3]netip.Addr{none, a, b}},
		{[2]uint16{2, 2}, [3]netip.Addr{none, b, none}},
		{[2]uint16{2, 9}, [3]netip.Addr{none, a, none}},
		{[2]uint16{9, 2}, [3]netip.Addr{none, b, none}},
		{[2]uint16{0, 0}, [3]netip.Addr{none, none, none}},
	} {
		set(c.servers[:]...)
		if got := [3]netip.Addr{of(1), of(2), of(3)}; got != c.want {
			t.Errorf("servers %v: %v, want %v", c.servers, got, c.want)
		}
	}
}

// TestClosing: a client that closes is forgotten sooner; one that takes its port again opens a new connection, which goes
// where new ones go: the backend of the former one may be drained, or down.
func TestClosing(t *testing.T) {
	r := newRig(t, Options{}, 10)
	state := func() FlowState {
		for f := range r.Flows() {
			return f.State
		}
		t.Fatal("no flow")
		return 0
	}
	c := client(1)
	at := r.establish(c)
	other := 9
	if backendAddress(other) == at { // the key of the hash is another one each time
		other = 8
	}
	r.setRing(r.vips[0], []BackendID{r.backends[other]})
	for _, step := range []struct {
		flags uint8
		data  string
		want  FlowState
		to    netip.Addr
	}{
		{packet.FIN | packet.ACK, "", Brief, at},
		{packet.ACK, "", Brief, at},                  // of the server's data, for as long as it likes
		{packet.RST, "", Brief, at},                  //
		{packet.ACK, "still alive", Established, at}, // the reset was not the client's
		{packet.SYN, "", Established, at},            // nor this
		{packet.RST, "", Brief, at},
		{packet.SYN, "", Opening, backendAddress(other)},
		{packet.SYN, "", Opening, backendAddress(other)},
		{packet.ACK, "", Established, backendAddress(other)},
	} {
		if to := r.to(r.send(c.tcp(step.flags, step.data))); to != step.to {
			t.Errorf("flags %#x went to %v, not %v", step.flags, to, step.to)
		}
		if got := state(); got != step.want {
			t.Errorf("after flags %#x: %v, want %v", step.flags, got, step.want)
		}
	}
	if n := r.CreditOf(r.backends[other]).Dispatched; n != 1 {
		t.Errorf("%d credits were taken for the new connection, want 1", n)
	}
	// Closed, and all backends are full by now: the next connection is refused.
	r.send(c.tcp(packet.FIN|packet.ACK, ""))
	r.setCredit(r.backends[other], Credit{Seq: 1, TTL: second * 60})
	if to := r.to(r.send(c.tcp(packet.SYN, ""))); to.IsValid() {
		t.Errorf("new connection on a used port went to %v, which is full", to)
	}
}
