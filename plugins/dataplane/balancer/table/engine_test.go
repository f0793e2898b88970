package table

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/maglev"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// TestSegments: which VIP holds which ports when ranges overlap.
func TestSegments(t *testing.T) {
	datadriven.RunTest(t, "testdata/segments", func(t *testing.T, d *datadriven.TestData) string {
		var in []portRange
		for line := range strings.Lines(d.Input) {
			f := strings.Fields(line)
			r := portRange{vip: VIPID(number(t, f[0])), first: uint16(number(t, f[2])), last: uint16(number(t, f[3])), exact: f[1] != "any"}
			for _, p := range map[string][]uint8{"tcp": {6}, "udp": {17}, "any": {6, 17}}[f[1]] {
				r.protocol = p
				in = append(in, r)
			}
		}
		var out strings.Builder
		for _, r := range disjoint(in) {
			fmt.Fprintf(&out, "%d %d-%d: %d\n", r.protocol, r.first, r.last, r.vip)
		}
		return out.String()
	})
}

func number(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// TestSegmentsRandom compares with asking each port.
func TestSegmentsRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var in []portRange
		for i := range rng.IntN(12) {
			first := rng.IntN(60)
			in = append(in, portRange{protocol: 6, first: uint16(first), last: uint16(first + rng.IntN(64-first)), vip: VIPID(i + 1), exact: rng.IntN(2) == 0})
		}
		out := disjoint(in)
		for port := range uint16(64) {
			var want VIPID
			var best portRange
			for _, r := range in {
				if r.first <= port && port <= r.last && (want == 0 || r.before(best)) {
					want, best = r.vip, r
				}
			}
			i := slices.IndexFunc(out, func(r portRange) bool { return r.first <= port && port <= r.last })
			if i < 0 && want != 0 || i >= 0 && out[i].vip != want {
				t.Fatalf("port %d of %v: want %d; %v", port, in, want, out)
			}
		}
	}
}

// TestManyPorts: the program finds its way through long lists, at their ends and in the gaps.
func TestManyPorts(t *testing.T) {
	r := newRig(t, Options{}, 3)
	var vips []VIP
	for i := range 3000 {
		vips = append(vips, VIP{Address: vip4, Protocol: TCP, First: uint16(100 + 3*i), Last: uint16(101 + 3*i)})
	}
	vips = append(vips, VIP{Address: vip6, Protocol: Any, First: 0, Last: 65535}, VIP{Address: vip6, Protocol: TCP, First: 443, Last: 443})
	r.setVIPs(vips...)
	for _, v := range r.vips {
		r.setRing(v, r.backends)
	}
	served := func(ip packet.IP, port int) bool {
		f := packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 1, Dst: uint16(port), Flags: packet.SYN}.Segment(ip, nil))
		return r.send(f).Verdict == xdpTX
	}
	for _, port := range []int{0, 99, 100, 101, 102, 103, 4000, 4001, 4002, 4003, 9096, 9097, 9098, 9099, 9100, 9101, 65535} {
		want := port >= 100 && port < 9100 && (port-100)%3 < 2
		if got := served(to4, port); got != want {
			t.Errorf("port %d: served %v, want %v", port, got, want)
		}
		if !served(to6, port) {
			t.Errorf("port %d of a VIP that has all", port)
		}
	}
}

// TestRingSpace: random allocation, as rings come and go, never gives a chunk twice and joins what is free.
func TestRingSpace(t *testing.T) {
	const all = 500
	rng := rand.New(rand.NewPCG(5, 6))
	s, held := newSpace(all), []region(nil)
	for step := range 5000 {
		if rng.IntN(2) == 0 || len(held) == 0 {
			if r, ok := s.take(1 + rng.IntN(60)); ok {
				held = append(held, r)
			}
		} else {
			i := rng.IntN(len(held))
			s.release(held[i])
			held = slices.Delete(held, i, i+1)
		}
		owners, free := make([]int, all), 0
		for _, r := range slices.Concat(held, s.free) {
			for c := r.base; c < r.base+r.size; c++ {
				owners[c]++
			}
		}
		if slices.ContainsFunc(owners, func(n int) bool { return n != 1 }) {
			t.Fatalf("step %d: held %v, free %v", step, held, s.free)
		}
		for i, f := range s.free {
			if free += f.size; i > 0 && s.free[i-1].base+s.free[i-1].size >= f.base {
				t.Fatalf("step %d: free regions touch: %v", step, s.free)
			}
		}
		again := newSpace(all)
		for _, r := range held {
			if err := again.claim(r); err != nil {
				t.Fatalf("step %d: claim %v: %v", step, r, err)
			}
		}
		if !slices.Equal(again.free, s.free) {
			t.Fatalf("step %d: a restart sees %v free, not %v", step, again.free, s.free)
		}
	}
}

// TestRingSpaceFull: rings change their size for ever in a space that is nearly full.
func TestRingSpaceFull(t *testing.T) {
	r := newRig(t, Options{RingSlots: 4000}, 0)
	r.setBackends(backends(3)...)
	for i := range 12 {
		r.setRing(r.vips[i%2], spread(r.backends, 600+100*(i%4)))
	}
	if err := r.SetRing(r.vips[0], spread(r.backends, 5000)); err == nil {
		t.Error("a ring larger than all room was accepted")
	}
	r.setRing(r.vips[0], spread(r.backends, 640))
}

// TestBalance: 100 backends of unequal weight get their shares, within 1.1 of the ideal.
func TestBalance(t *testing.T) {
	const flows, n = 60_000, 100
	r := newRig(t, Options{Flows: 1 << 17}, n)
	var members []maglev.Member
	total := 0.0
	for i := range n {
		weight := uint32(1 + i%4)
		total += float64(weight)
		members = append(members, maglev.Member{Key: uint64(i+1) * 0x9e3779b97f4a7c15, Weight: weight, Value: uint16(r.backends[i])})
	}
	ring := make([]uint16, maxRing)
	if _, err := maglev.Fill(ring, members); err != nil {
		t.Fatal(err)
	}
	ids := make([]BackendID, len(ring))
	for i, m := range ring {
		ids[i] = BackendID(m)
	}
	r.setRing(r.vips[0], ids)
	for i := range flows {
		r.send(client(i*7).tcp(packet.SYN, ""))
	}
	got := make(map[BackendID]float64)
	for f := range r.Flows() {
		got[f.Backend]++
	}
	worst := 0.0
	for i, b := range r.backends {
		ideal := flows * float64(members[i].Weight) / total
		// Five standard deviations of chance are not imbalance: 60,000 flows are thrown, not dealt.
		worst = max(worst, (got[b]-5*math.Sqrt(ideal))/ideal)
	}
	if worst > 1.1 {
		t.Errorf("the busiest backend has %.3f of its share", worst)
	}
	slots := make(map[BackendID]float64)
	for _, b := range ids {
		slots[b]++
	}
	for i, b := range r.backends {
		if share := slots[b] / maxRing * total / float64(members[i].Weight); share > 1.1 {
			t.Errorf("backend %d has %.3f of its share of the ring", b, share)
		}
	}
}

// TestBadInput: what cannot be is refused with words, and nothing of it is in force.
func TestBadInput(t *testing.T) {
	r := newRig(t, Options{VIPs: 4, Backends: 30}, 20)
	c := newCrowd(t, r, 50)
	at := netip.MustParseAddr("10.0.0.9")
	for name, err := range map[string]error{
		"ports in the wrong order": second1(r.SetVIPs([]VIP{{Address: vip4, Protocol: TCP, First: 9, Last: 8}})),
		"a VIP twice":              second1(r.SetVIPs([]VIP{{Address: vip4, Protocol: TCP}, {Address: vip4, Protocol: TCP}})),
		"no address":               second1(r.SetVIPs([]VIP{{Protocol: TCP}})),
		"an unknown protocol":      second1(r.SetVIPs([]VIP{{Address: vip4, Protocol: 99}})),
		"too many VIPs":            second1(r.SetVIPs([]VIP{{Address: vip4, First: 1}, {Address: vip4, First: 2}, {Address: vip4, First: 3}, {Address: vip4, First: 4}, {Address: vip4, First: 5, Last: 6}})),
		"a VNI of 25 bits":         second1(r.SetBackends([]Backend{{Address: at, VNI: 1 << 24}})),
		"a MAC of three bytes":     second1(r.SetBackends([]Backend{{Address: at, NextHop: []byte{1, 2, 3}}})),
		"a mapped address":         second1(r.SetBackends([]Backend{{Address: netip.MustParseAddr("::ffff:1.2.3.4")}})),
		"a backend twice":          second1(r.SetBackends([]Backend{{Address: at}, {Address: at}})),
		"a ring of no VIP":         r.SetRing(77, nil),
		"a ring of no backend":     r.SetRing(r.vips[0], []BackendID{31}),
		"credit of no backend":     r.SetCredit(25, Credit{Unlimited: true}),
		"a report without TTL":     r.SetCredit(r.backends[0], Credit{Seq: 1, Limit: 1}),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if n := c.moved(1); n != 0 {
		t.Errorf("%d flows moved", n)
	}
	for name, o := range map[string]Options{"MTU": {MTU: 100}, "flows": {Flows: 1}, "source": {Source4: vip6}, "pins": {Pins: t.TempDir()}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func second1[T any](_ T, err error) error { return err }

// TestReasons: every reason has a name, drops are told from the rest.
func TestReasons(t *testing.T) {
	for i := range lb.ReasonCount {
		r := Reason(i)
		if r.String() == "" || r.String() == "unknown" {
			t.Errorf("reason %d has no name", i)
		}
		if back, ok := ReasonByName(r.String()); i > 0 && (!ok || back != r) {
			t.Errorf("%q is reason %d, found as %d", r, i, back)
		}
	}
	for name, want := range map[string]bool{"pass no vip": false, "truncated": true, "no room": true, "reset sent": false, "bad inner": true, "adopted": false} {
		if r, _ := ReasonByName(name); r.Dropped() != want {
			t.Errorf("%q: dropped %v, want %v", name, r.Dropped(), want)
		}
	}
}
