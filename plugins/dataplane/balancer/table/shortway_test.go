package table

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// ways runs the program on packets by its short way, where it takes that, and by the general one alone.
type ways struct {
	*rig
	table []uint64 // what the flow table holds before each run
}

// newWays has VIPs of many kinds, backends of all, and established flows of both protocols and families.
func newWays(t testing.TB) *ways {
	w := &ways{rig: newRig(t, Options{Flows: 1 << 10}, 0)}
	list := backends(6)
	list[1].Encapsulation, list[2].Encapsulation, list[3].Address = GUE, VXLAN, source6
	list[4].NextHop = nil // by the kernel's routes
	w.setBackends(list...)
	w.setVIPs(
		VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80}, VIP{Address: vip6, Protocol: TCP, First: 80, Last: 80},
		VIP{Address: vip4, Protocol: UDP, First: 53, Last: 63}, VIP{Address: vip6, Protocol: UDP, First: 53, Last: 63},
		VIP{Address: vip4, Protocol: QUIC, First: 443, Last: 443},
		VIP{Address: vip4, Protocol: TCP, First: 81, Last: 81, PreserveSource: true, PreservePort: true},
	)
	for _, v := range w.vips {
		// Mostly the usual kind of backend: the short way has no other.
		w.setRing(v, slices.Concat(slices.Repeat(w.backends[:1], 8), w.backends))
	}
	for _, b := range w.backends {
		w.setCredit(b, Credit{Unlimited: true})
	}
	for i := range 24 {
		for _, ip := range []packet.IP{to4, to6} {
			for _, flags := range []uint8{packet.SYN, packet.ACK, packet.ACK} {
				for _, port := range []uint16{80, 81} {
					w.send(w.segment(ip, i, port, flags, 9))
				}
			}
			w.send(w.datagram(ip, i, 53))
			w.send(w.datagram(ip, i, 443))
		}
	}
	for i := range w.shared.flows.Elems { // datagrams that were sent some time ago: the next ones make flows of them
		for s := range w.shared.flows.Elems[i].Entry {
			if e := &w.shared.flows.Elems[i].Entry[s]; packed(*e).state() == Tentative {
				*e = *e&^(255<<23) | uint64(Tentative.seenAt(bpf.Now())-2)<<23
			}
		}
	}
	for i := range 20 { // and four do not
		w.send(w.datagram(to4, i, 53))
		w.send(w.datagram(to6, i, 53))
	}
	for _, l := range w.shared.flows.Elems {
		w.table = append(w.table, l.Entry[:]...)
	}
	return w
}

func (w *ways) segment(ip packet.IP, i int, port uint16, flags uint8, payload int) []byte {
	return packet.Frame(boxMAC, routerMAC, packet.TCP{Src: uint16(4000 + i), Dst: port, Flags: flags, Window: 9}.Segment(ip, big(payload)))
}

func (w *ways) datagram(ip packet.IP, i int, port uint16) []byte {
	return packet.Frame(boxMAC, routerMAC, packet.UDP{Src: uint16(4000 + i), Dst: port}.Datagram(ip, big(30)))
}

// outcome is all that a packet can change.
type outcome struct {
	verdict  uint32
	packet   []byte
	reasons  map[Reason]uint64
	vips     map[VIPID]VIPCounter
	backends map[BackendID]BackendCounter
	flows    []uint64
}

// run sends a packet into the table as it was, its flows seen just now, by one way. A capture that nothing matches keeps
// packets off the short one. All runs are on one CPU: each remembers VIPs for itself.
func (w *ways) run(frame []byte, short bool) outcome {
	w.Helper()
	for i, e := range w.table {
		if e != 0 && !packed(e).halfOpen() {
			e = e&^(255<<23) | uint64(packed(e).state().seenAt(bpf.Now()))<<23
		}
		w.shared.flows.Elems[i/slotsPerLine].Entry[i%slotsPerLine] = e
	}
	c := w.control()
	c.CaptureReason, c.Capture, c.CaptureLeft = 63, 1, 1<<40
	if short {
		c.Capture = 0
	}
	before := w.Counters()
	res, err := bpf.TestRun(w.Program(), bpf.Run{Packet: frame, Pin: true})
	w.must(err)
	after := w.Counters()
	o := outcome{res.Verdict, res.Packet, after.Reasons, map[VIPID]VIPCounter{}, map[BackendID]BackendCounter{}, nil}
	maps.DeleteFunc(o.reasons, func(r Reason, n uint64) bool { return n == before.Reasons[r] })
	for r := range o.reasons {
		o.reasons[r] -= before.Reasons[r]
	}
	for _, v := range after.VIPs {
		o.vips[v.ID] = v
	}
	for _, v := range before.VIPs {
		a := o.vips[v.ID]
		o.vips[v.ID] = VIPCounter{v.ID, a.Packets - v.Packets, a.Bytes - v.Bytes, a.NewFlows - v.NewFlows, a.Refused - v.Refused}
	}
	for _, b := range after.Backends {
		o.backends[b.ID] = b
	}
	for _, b := range before.Backends {
		a := o.backends[b.ID]
		o.backends[b.ID] = BackendCounter{b.ID, a.Packets - b.Packets, a.Bytes - b.Bytes}
	}
	for _, l := range w.shared.flows.Elems {
		for _, e := range l.Entry {
			o.flows = append(o.flows, e&^(255<<23)) // the clock goes on between two runs
		}
	}
	return o
}

// same says in what the two ways differ, or nothing.
func (w *ways) same(frame []byte) string {
	w.Helper()
	general, short := w.run(frame, false), w.run(frame, true)
	switch {
	case general.verdict != short.verdict:
		return fmt.Sprintf("verdict %d, by the short way %d", general.verdict, short.verdict)
	case !bytes.Equal(general.packet, short.packet):
		return packet.Diff(general.packet, short.packet)
	case !maps.Equal(general.reasons, short.reasons):
		return fmt.Sprintf("counted %v, by the short way %v", general.reasons, short.reasons)
	case !maps.Equal(general.vips, short.vips) || !maps.Equal(general.backends, short.backends):
		return fmt.Sprintf("counted %v %v, by the short way %v %v", general.vips, general.backends, short.vips, short.backends)
	case !slices.Equal(general.flows, short.flows):
		return "the flow tables differ"
	}
	return ""
}

// tookShort reports whether a packet takes the short way. One that does believes what its CPU remembers of VIPs: it is
// counted for a VIP that it is not for.
func (w *ways) tookShort(frame []byte) bool {
	w.Helper()
	w.run(frame, true) // its VIP is known now
	const wrong = 6
	m := w.loaded.Maps["cpu_local"]
	for cpu := range w.cpus {
		row := make([]byte, m.ValueSize())
		w.must(m.Lookup(uint32(cpu), &row))
		for at := 64; at < len(row); at += 32 {
			*(*uint32)(unsafe.Pointer(&row[at+20])) = wrong
		}
		w.must(m.Update(uint32(cpu), row, ebpf.UpdateExist))
	}
	o := w.run(frame, true)
	w.must(w.forgetRecent())
	return o.vips[w.vips[wrong-1]].Packets == 1
}

func (w *ways) forgetRecent() error {
	m := w.loaded.Maps["cpu_local"]
	for cpu := range w.cpus {
		if err := m.Update(uint32(cpu), make([]byte, m.ValueSize()), ebpf.UpdateExist); err != nil {
			return err
		}
	}
	return nil
}

// TestShortWay: packets of every kind come to the same by both ways; which of them the short one is for.
func TestShortWay(t *testing.T) {
	w := newWays(t)
	change := func(frame []byte, at int, b ...byte) []byte {
		frame = slices.Clone(frame)
		copy(frame[at:], b)
		return frame
	}
	with := func(ip packet.IP, f func(*packet.IP)) packet.IP { f(&ip); return ip }
	usual := func(frame func(i int) []byte) []byte { // of the first flow at the usual kind of backend
		for i := range 20 {
			if f := frame(i); w.run(f, false).backends[w.backends[0]].Packets == 1 {
				return f
			}
		}
		t.Fatal("no flow is at the first backend")
		return nil
	}
	tcp := usual(func(i int) []byte { return w.segment(to4, i, 80, packet.ACK, 20) })
	tcp6 := usual(func(i int) []byte { return w.segment(to6, i, 80, packet.ACK, 20) })
	udp := usual(func(i int) []byte { return w.datagram(to4, i, 53) })
	udp6 := usual(func(i int) []byte { return w.datagram(to6, i, 53) })
	port := int(tcp[34])<<8 + int(tcp[35]) - 4000
	for _, c := range []struct {
		name  string
		frame []byte
		short bool
	}{
		{"TCP", tcp, true},
		{"TCP of IPv6", tcp6, true},
		{"UDP", udp, true},
		{"UDP of IPv6", udp6, true},
		{"padded", append(slices.Clone(tcp), make([]byte, 9)...), true},
		{"without DF", w.segment(with(to4, func(h *packet.IP) { h.DF = false }), port, 80, packet.ACK, 20), true},
		{"of another class", w.segment(with(to4, func(h *packet.IP) { h.TOS = 0xff }), port, 80, packet.ACK, 20), true},
		{"pushed", w.segment(to4, port, 80, packet.ACK|0x08, 20), true},
		{"just fits", w.segment(to4, port, 80, packet.ACK, 1440), true},
		{"does not fit", w.segment(to4, port, 80, packet.ACK, 1441), false},
		{"SYN", w.segment(to4, port, 80, packet.SYN, 0), false},
		{"FIN", w.segment(to4, port, 80, packet.ACK|packet.FIN, 0), false},
		{"RST", w.segment(to4, port, 80, packet.RST, 0), false},
		{"no flags", w.segment(to4, port, 80, 0, 0), false},
		{"of no flow", w.segment(to4, 500, 80, packet.ACK, 0), false},
		{"to no VIP", w.segment(with(to4, func(h *packet.IP) { h.Dst = client4 }), port, 80, packet.ACK, 0), false},
		{"to another port", w.segment(to4, port, 82, packet.ACK, 0), false},
		{"from the VIP", w.segment(with(to4, func(h *packet.IP) { h.Src = vip4 }), port, 80, packet.ACK, 0), false},
		{"from the IPv6 VIP", w.segment(with(to6, func(h *packet.IP) { h.Src = vip6 }), port, 80, packet.ACK, 0), false},
		{"options", w.segment(with(to4, func(h *packet.IP) { h.Options = make([]byte, 4) }), port, 80, packet.ACK, 0), false},
		{"fragment", w.segment(with(to4, func(h *packet.IP) { h.MF, h.ID = true, 5 }), port, 80, packet.ACK, 64), false},
		{"bad checksum", w.segment(with(to4, func(h *packet.IP) { h.BadChecksum = true }), port, 80, packet.ACK, 64), false},
		{"IPv4 of length 19", change(tcp, 16, 0, 19), false},
		{"longer than its frame", change(tcp6, 18, 0, 250), false},
		{"TCP header of 16 bytes", change(tcp, 46, 0x40), false},
		{"TCP header longer than the packet", change(tcp, 46, 0xb0), false},
		{"UDP longer than the packet", change(udp, 38, 1, 0), false},
		{"UDP of length 7", change(udp, 38, 0, 7), false},
		{"cut off", tcp[:53], false},
		{"VLAN", change(tcp, 12, 0x81, 0), false},
		{"QUIC", w.datagram(to4, port, 443), false},
		{"first datagram", w.datagram(to4, 22, 53), false},
	} {
		if d := w.same(c.frame); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if short := w.tookShort(c.frame); short != c.short {
			t.Errorf("%s: took the short way: %v, want %v", c.name, short, c.short)
		}
	}
	for i := range 24 { // all kinds of backends and VIPs
		for _, ip := range []packet.IP{to4, to6} {
			for name, frame := range map[string][]byte{
				"web": w.segment(ip, i, 80, packet.ACK, 9), "preserving": w.segment(ip, i, 81, packet.ACK, 9),
				"names": w.datagram(ip, i, 53), "QUIC": w.datagram(ip, i, 443),
			} {
				if d := w.same(frame); d != "" {
					t.Errorf("%s, flow %d of %v: %s", name, i, ip.Src, d)
				}
			}
		}
	}
}

// TestShortWayForgets: what a CPU remembers of a VIP ends with the VIP, and with its policy.
func TestShortWayForgets(t *testing.T) {
	r := newRig(t, Options{}, 1)
	frame := tcp80(to4, packet.ACK, nil)
	r.send(tcp80(to4, packet.SYN, nil))
	for range 3 {
		r.send(frame)
	}
	r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80, PreserveSource: true})
	if got := r.send(frame); !bytes.Equal(got.Packet[26:30], client4.AsSlice()) {
		t.Errorf("after the policy has changed the outer source is %v, want the client's", got.Packet[26:30])
	}
	r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80})
	r.send(frame)
	r.send(frame)
	r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 81, Last: 81})
	if got := r.send(frame); got.Verdict != xdpPass {
		t.Errorf("after the VIP was removed: verdict %d, want %d", got.Verdict, xdpPass)
	}
	r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80})
	r.send(frame)
	r.setBackends()
	if got := r.send(frame); got.Verdict != xdpDrop {
		t.Errorf("after its backend was removed: verdict %d, want %d", got.Verdict, xdpDrop)
	}
}

// FuzzShortWay: whatever comes, both ways say and do the same.
func FuzzShortWay(f *testing.F) {
	w := newWays(f)
	for i := range 4 {
		for _, ip := range []packet.IP{to4, to6} {
			f.Add(w.segment(ip, i, 80, packet.ACK, 20))
			f.Add(w.segment(ip, i, 81, packet.ACK|packet.FIN, 20))
			f.Add(w.datagram(ip, i, 53))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 14 || len(in) > 2000 {
			return
		}
		w := ways{&rig{t, w.Table, w.vips, w.backends}, w.table}
		if d := w.same(in); d != "" {
			t.Errorf("% x\n%s", in, d)
		}
	})
}
