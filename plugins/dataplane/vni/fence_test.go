package vni

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/port"
)

// The kernel's verdicts of a tc program.
const (
	unspec   = ^uint32(0)
	shot     = 2
	redirect = 7
)

var (
	vniMAC   = [6]byte{2, 0, 0, 0, 0, 0x71}
	otherMAC = [6]byte{2, 0, 0, 0, 0, 0x72}
	lanMAC   = [6]byte{2, 0, 0, 0, 0, 9}
	v4       = netip.MustParseAddr("10.1.0.7")
	v6       = netip.MustParseAddr("2001:db8::7")
)

// onThisLink is where a test run's packet is: the loopback, the only link there is.
const onThisLink = 1

func newFence(t testing.TB) *Fence {
	t.Helper()
	f, err := OpenFence(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func frame(to, from [6]byte, more ...byte) []byte {
	f := append(append([]byte(nil), to[:]...), from[:]...)
	return append(append(f, 8, 0), append(more, make([]byte, 46)...)...)
}

func question(a netip.Addr) []byte {
	f := port.Announcement(lanMAC, a) // a gratuitous request asks for its own address
	if a.Is6() {
		f = port.Question(lanMAC, vniMAC, a)
		copy(f, []byte{0x33, 0x33, 0xff, 0, 0, 7})
	}
	return f
}

// TestFence runs the programs of the segment and of the ports on packets, in each state of an attachment.
func TestFence(t *testing.T) {
	const id = 71
	states := map[string]func(*Fence){
		"unknown":  func(*Fence) {},
		"stand-by": func(f *Fence) { f.know(t, id); f.Renew(bpf.BootNow() + uint64(time.Hour)) },
		"attached": func(f *Fence) {
			f.know(t, id)
			f.attach(t, id)
			f.Renew(bpf.BootNow() + uint64(time.Hour))
		},
		"lease over": func(f *Fence) {
			f.know(t, id)
			f.attach(t, id)
			f.Renew(bpf.BootNow() - 1)
		},
		"detached": func(f *Fence) {
			f.know(t, id)
			f.attach(t, id)
			f.Renew(bpf.BootNow() + uint64(time.Hour))
			if err := f.Detach(id); err != nil {
				t.Fatal(err)
			}
		},
		"forgotten": func(f *Fence) {
			f.know(t, id)
			f.attach(t, id)
			if err := f.Unknow(id); err != nil {
				t.Fatal(err)
			}
		},
	}
	in := map[string][]byte{
		"unicast": frame(vniMAC, lanMAC), "ARP": question(v4), "solicitation": question(v6),
		"other MAC": frame(otherMAC, lanMAC), "other ARP": question(netip.MustParseAddr("10.1.0.8")),
		"other solicitation": question(netip.MustParseAddr("2001:db8::8")), "broadcast": frame([6]byte{255, 255, 255, 255, 255, 255}, lanMAC),
	}
	out := map[string][]byte{"sent": frame(lanMAC, vniMAC), "spoofed": frame(lanMAC, otherMAC)}
	type want struct {
		verdict uint32
		outcome string
	}
	pass, standby, over := want{unspec, ""}, want{shot, "stand-by"}, want{shot, "lease over"}
	for state, wants := range map[string]map[string]want{
		"unknown":    {"unicast": pass, "ARP": pass, "solicitation": pass, "sent": standby, "spoofed": standby},
		"stand-by":   {"unicast": standby, "ARP": standby, "solicitation": standby, "other MAC": pass, "sent": standby, "spoofed": standby},
		"lease over": {"unicast": over, "ARP": over, "solicitation": over, "other MAC": pass, "sent": over, "spoofed": {shot, "spoofed"}},
		"detached":   {"unicast": standby, "ARP": standby, "solicitation": standby, "sent": standby},
		"forgotten":  {"unicast": pass, "ARP": pass, "solicitation": pass, "sent": standby},
		"attached": {
			"unicast": {redirect, "delivered"}, "ARP": {redirect, "delivered"}, "solicitation": {redirect, "delivered"},
			"other MAC": pass, "other ARP": pass, "other solicitation": pass, "broadcast": pass,
			"sent": {unspec, "sent"}, "spoofed": {shot, "spoofed"},
		},
	} {
		for name, w := range wants {
			t.Run(state+"/"+name, func(t *testing.T) {
				f := newFence(t)
				states[state](f)
				program, packet := f.loaded.Programs["fence_segment"], in[name]
				if packet == nil {
					program, packet = f.loaded.Programs["fence_out"], out[name]
					if err := f.loaded.Maps["fence_ports"].Put(uint32(onThisLink), uint32(id)); err != nil {
						t.Fatal(err)
					}
				}
				r, err := bpf.TestRun(program, bpf.Run{Packet: packet})
				if err != nil {
					t.Fatal(err)
				}
				counts, err := f.Counters()
				if err != nil {
					t.Fatal(err)
				}
				if r.Verdict != w.verdict || (w.outcome != "" && counts[w.outcome] != 1) {
					t.Errorf("verdict %d, want %d; counters %v, want one %q", int32(r.Verdict), int32(w.verdict), counts, w.outcome)
				}
			})
		}
	}
}

func (f *Fence) know(t testing.TB, id uint32) {
	t.Helper()
	if err := f.Know(id, vniMAC, []netip.Addr{v4, v6}); err != nil {
		t.Fatal(err)
	}
}

func (f *Fence) attach(t testing.TB, id uint32) {
	t.Helper()
	if err := f.Attach(id, Holding{Link: onThisLink, Epoch: 70000, MAC: vniMAC}); err != nil {
		t.Fatal(err)
	}
}

// What is known again keeps its attachment; a new MAC or address takes the old one's place.
func TestFenceKnowsAgain(t *testing.T) {
	f := newFence(t)
	f.know(t, 71)
	f.attach(t, 71)
	if err := f.Know(71, otherMAC, []netip.Addr{v6}); err != nil {
		t.Fatal(err)
	}
	if h := f.Held()[71]; h.Epoch != 70000 || h.Link != onThisLink {
		t.Errorf("held: %+v", f.Held())
	}
	for name, packet := range map[string][]byte{"old MAC": frame(vniMAC, lanMAC), "old address": question(v4)} {
		if r, err := bpf.TestRun(f.loaded.Programs["fence_segment"], bpf.Run{Packet: packet}); err != nil || r.Verdict != unspec {
			t.Errorf("%s: verdict %d, %v", name, int32(r.Verdict), err)
		}
	}
}

// What one assignment takes from a VNI and gives to another is the other's, in whatever order they come.
func TestFenceMoves(t *testing.T) {
	entry := func(id uint32, mac [6]byte, addresses ...netip.Addr) failover.Entry {
		return failover.Entry{Interface: id, Instance: "web", MAC: mac, Addresses: addresses}
	}
	more := netip.MustParseAddr("10.1.0.8")
	for name, c := range map[string]struct{ before, after []failover.Entry }{
		"another number": {[]failover.Entry{entry(71, vniMAC, v4, v6)}, []failover.Entry{entry(171, vniMAC, v4, v6)}},
		"address moves to the first": {
			[]failover.Entry{entry(71, vniMAC, v4), entry(72, otherMAC, v6, more)}, []failover.Entry{entry(71, vniMAC, v4, v6), entry(72, otherMAC, more)},
		},
		"address moves to the second": {
			[]failover.Entry{entry(71, vniMAC, v4, v6), entry(72, otherMAC, more)}, []failover.Entry{entry(71, vniMAC, v4), entry(72, otherMAC, v6, more)},
		},
		"all change places": {
			[]failover.Entry{entry(71, vniMAC, v4), entry(72, otherMAC, v6)}, []failover.Entry{entry(71, otherMAC, v6), entry(72, vniMAC, v4)},
		},
	} {
		f := newFence(t)
		a := &Agent{fence: f, known: map[uint32]bool{}}
		for _, entries := range [][]failover.Entry{c.before, c.after} {
			if err := a.learn(t.Context(), nil, entries); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range c.after {
			var id uint32
			if err := f.loaded.Maps["fence_macs"].Lookup(macKey{MAC: e.MAC}, &id); err != nil || id != e.Interface {
				t.Errorf("%s: the MAC of VNI %d is %d's, %v", name, e.Interface, id, err)
			}
			for _, address := range e.Addresses {
				if err := f.loaded.Maps["fence_addresses"].Lookup(address.As16(), &id); err != nil || id != e.Interface {
					t.Errorf("%s: %v of VNI %d is %d's, %v", name, address, e.Interface, id, err)
				}
			}
		}
	}
}

// What an earlier process taught the fence is forgotten when the box does not name it any more, or names it otherwise.
func TestFenceForgetsWhatWasLeft(t *testing.T) {
	pins, err := bpf.OpenPins(bpffs(t), "fence", fenceLayout)
	if err != nil {
		t.Fatal(err)
	}
	start := func() *Agent {
		f, err := OpenFence(pins)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		a := &Agent{fence: f, known: map[uint32]bool{}, follower: failover.NewFollower(1)}
		if err := a.resume(); err != nil {
			t.Fatal(err)
		}
		return a
	}
	third := [6]byte{2, 0, 0, 0, 0, 0x73}
	more := netip.MustParseAddr("10.1.0.8")
	if err := start().learn(t.Context(), nil, []failover.Entry{
		{Interface: 71, MAC: vniMAC, Addresses: []netip.Addr{v4}}, {Interface: 72, MAC: otherMAC, Addresses: []netip.Addr{v6, more}},
	}); err != nil {
		t.Fatal(err)
	}
	a := start()
	if err := a.learn(t.Context(), nil, []failover.Entry{{Interface: 72, MAC: third, Addresses: []netip.Addr{more}}}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		packet []byte
		want   uint32
	}{
		"MAC of a VNI that is gone": {frame(vniMAC, lanMAC), unspec}, "its address": {question(v4), unspec},
		"old MAC": {frame(otherMAC, lanMAC), unspec}, "old address": {question(v6), unspec},
		"new MAC": {frame(third, lanMAC), shot}, "address that stays": {question(more), shot},
	} {
		if r, err := bpf.TestRun(a.fence.loaded.Programs["fence_segment"], bpf.Run{Packet: c.packet}); err != nil || r.Verdict != c.want {
			t.Errorf("%s: verdict %d, want %d, %v", name, int32(r.Verdict), int32(c.want), err)
		}
	}
	var slot uint32
	if err := a.fence.loaded.Maps["fence_vnis"].Lookup(uint32(71), &slot); err == nil {
		t.Error("the VNI that is gone still has a row")
	}
}

// Rows are given away again, but not before the last one is needed.
func TestFenceRows(t *testing.T) {
	f := newFence(t)
	rows := len(f.rows.Elems)
	for id := range uint32(rows) {
		if err := f.Know(id, vniMAC, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Know(uint32(rows), vniMAC, nil); err == nil {
		t.Error("one VNI more than there are rows")
	}
	f.attach(t, 5)
	if err := f.Unknow(5); err != nil {
		t.Fatal(err)
	}
	if err := f.Know(uint32(rows), vniMAC, nil); err != nil {
		t.Fatal(err)
	}
	if held := f.Held(); len(held) != 0 {
		t.Errorf("a new VNI has what another one left: %+v", held)
	}
}

// A lease only ever gets longer: an answer that was overtaken does not shorten it.
func TestFenceRenew(t *testing.T) {
	f := newFence(t)
	f.Renew(100)
	f.Renew(50)
	if got := f.Until(); got != 100 {
		t.Errorf("lease until %d, want 100", got)
	}
}

// FuzzFence throws bytes at the programs: every verdict is one of those there are.
func FuzzFence(f *testing.F) {
	fence := newFence(f)
	fence.know(f, 71)
	fence.attach(f, 71)
	fence.Renew(bpf.BootNow() + uint64(time.Hour))
	f.Add(frame(vniMAC, lanMAC))
	f.Add(question(v4))
	f.Add(question(v6))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) > 1500 {
			return
		}
		for _, program := range []string{"fence_overlay", "fence_segment", "fence_out"} {
			r, err := bpf.TestRun(fence.loaded.Programs[program], bpf.Run{Packet: packet})
			if errors.Is(err, unix.EINVAL) {
				return // shorter than the headers it announces: the kernel does not run it
			}
			if err != nil {
				t.Fatal(err)
			}
			if v := r.Verdict; v != unspec && v != shot && v != redirect {
				t.Errorf("%s: verdict %d", program, int32(v))
			}
		}
	})
}
