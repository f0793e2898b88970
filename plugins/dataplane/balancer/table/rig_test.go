package table

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// Verdicts of XDP.
const (
	xdpDrop = 1
	xdpPass = 2
	xdpTX   = 3
)

var (
	vip4      = netip.MustParseAddr("192.0.2.80")
	vip6      = netip.MustParseAddr("2001:db8::80")
	client4   = netip.MustParseAddr("198.51.100.7")
	client6   = netip.MustParseAddr("2001:db8:1::7")
	source4   = netip.MustParseAddr("10.0.0.1")
	source6   = netip.MustParseAddr("fd00::1")
	boxMAC    = packet.MAC{2, 0, 0, 0, 0, 1}
	routerMAC = packet.MAC{2, 0, 0, 0, 0, 2}
	hopMAC    = packet.MAC{2, 0, 0, 0, 0, 3}
)

// rig is a table with the usual VIPs and backends, and somebody who sends packets to it.
type rig struct {
	testing.TB
	*Table
	vips     []VIPID
	backends []BackendID
}

func open(t testing.TB, o Options) *Table {
	t.Helper()
	o.Source4, o.Source6 = source4, source6
	tab, err := Open(o)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { _ = tab.Close() })
	return tab
}

// newRig has VIP 80/tcp in both families and n backends, all with as many flows as they like.
func newRig(t testing.TB, o Options, n int) *rig {
	t.Helper()
	r := &rig{TB: t, Table: open(t, o)}
	r.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80}, VIP{Address: vip6, Protocol: TCP, First: 80, Last: 80})
	r.setBackends(backends(n)...)
	for _, v := range r.vips {
		r.setRing(v, spread(r.backends, 4096))
	}
	for _, b := range r.backends {
		r.setCredit(b, Credit{Unlimited: true})
	}
	return r
}

func backends(n int) []Backend {
	list := make([]Backend, n)
	for i := range list {
		list[i] = Backend{Address: backendAddress(i), Component: "web", NextHop: hopMAC[:]}
	}
	return list
}

func backendAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

// spread is a ring that gives all the same share, in an order that is nobody's.
func spread(ids []BackendID, slots int) []BackendID {
	ring := make([]BackendID, slots)
	if len(ids) == 0 {
		return nil
	}
	for i := range ring {
		ring[i] = ids[(uint32(i)*2654435761>>7)%uint32(len(ids))]
	}
	return ring
}

// forget empties the flow table.
func (r *rig) forget() {
	clear(r.shared.flows.Elems)
	for hash := range r.overflow() {
		r.must(r.loaded.Maps["overflow"].Delete(hash))
	}
	r.control().Overflowed = 0
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) setVIPs(v ...VIP) {
	r.Helper()
	var err error
	r.vips, err = r.SetVIPs(v)
	r.must(err)
}

func (r *rig) setBackends(b ...Backend) {
	r.Helper()
	var err error
	r.backends, err = r.SetBackends(b)
	r.must(err)
}

func (r *rig) setRing(v VIPID, ring []BackendID) { r.Helper(); r.must(r.SetRing(v, ring)) }

func (r *rig) setCredit(b BackendID, c Credit) { r.Helper(); r.must(r.SetCredit(b, c)) }

// send runs the program on a frame.
func (r *rig) send(frame []byte) bpf.Result {
	r.Helper()
	res, err := bpf.TestRun(r.Program(), bpf.Run{Packet: frame})
	r.must(err)
	return res
}

// conn is a client's end of a TCP connection to port 80.
type conn struct {
	src, dst netip.AddrPort
	seq      uint32
}

func client(i int) conn {
	a := netip.AddrFrom4([4]byte{198, 18 + byte(i>>24), byte(i >> 16), byte(i >> 8)})
	return conn{netip.AddrPortFrom(a, uint16(1024+i&0xff)), netip.AddrPortFrom(vip4, 80), 1}
}

func (c conn) tcp(flags uint8, payload string) []byte {
	ip := packet.IP{Src: c.src.Addr(), Dst: c.dst.Addr(), DF: true}
	t := packet.TCP{Src: c.src.Port(), Dst: c.dst.Port(), Seq: c.seq, Flags: flags, Window: 1000}
	return packet.Frame(boxMAC, routerMAC, t.Segment(ip, []byte(payload)))
}

// to says where a frame that left goes: the outer destination.
func (r *rig) to(res bpf.Result) netip.Addr {
	r.Helper()
	if res.Verdict != xdpTX {
		return netip.Addr{}
	}
	switch p := res.Packet; binary.BigEndian.Uint16(p[12:]) {
	case 0x0800:
		return netip.AddrFrom4([4]byte(p[30:34]))
	case 0x86dd:
		return netip.AddrFrom16([16]byte(p[38:54]))
	}
	r.Fatalf("left with an unknown type: % x", res.Packet[:34])
	return netip.Addr{}
}

// establish opens a connection as a client does and returns its backend's address.
func (r *rig) establish(c conn) netip.Addr {
	r.Helper()
	at := r.to(r.send(c.tcp(packet.SYN, "")))
	if then := r.to(r.send(c.tcp(packet.ACK, ""))); then != at {
		r.Fatalf("%v: SYN went to %v, ACK to %v; counted %v", c.src, at, then, r.Counters().Reasons)
	}
	return at
}

// reasons are the counters by name that have grown since the last call.
type reasons map[Reason]uint64

func (r *rig) grown(since reasons) string {
	now := r.Counters().Reasons
	s := ""
	for i := Reason(0); i < 64; i++ {
		if d := now[i] - since[i]; d != 0 {
			s += fmt.Sprintf("%v %d, ", i, d)
		}
		since[i] = now[i]
	}
	if s == "" {
		return "-"
	}
	return s[:len(s)-2]
}

const second = time.Second
