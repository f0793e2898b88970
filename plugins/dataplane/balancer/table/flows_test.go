package table

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb/mutant"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// crowd is many established connections and where each of them went.
type crowd struct {
	*rig
	conns []conn
	at    []netip.Addr
}

func newCrowd(t testing.TB, r *rig, n int) *crowd {
	t.Helper()
	c := &crowd{rig: r, conns: make([]conn, n), at: make([]netip.Addr, n)}
	for i := range n {
		c.conns[i] = client(i)
		if c.at[i] = r.establish(c.conns[i]); !c.at[i].IsValid() {
			t.Fatalf("flow %d of %d was refused", i, n)
		}
	}
	return c
}

// moved counts connections whose next packet goes elsewhere. every = 1 asks all of them.
func (c *crowd) moved(every int) (n int) {
	c.Helper()
	for i := rand.IntN(every); i < len(c.conns); i += every {
		if c.to(c.send(c.conns[i].tcp(packet.ACK, "data"))) != c.at[i] {
			n++
		}
	}
	return n
}

// TestFlowsStay: 50 % and 90 % of the table's capacity in established connections; k of 100 backends become full and
// recover, 1,000 times, in credit and in the ring. No connection moves, and a full backend gets no new one.
func TestFlowsStay(t *testing.T) {
	const all = 100
	for load, capacity := range map[int]int{50: 1 << 16, 90: 1 << 15} {
		r := newRig(t, Options{Flows: capacity}, all)
		c := newCrowd(t, r, capacity*load/100)
		rng := rand.New(rand.NewPCG(1, uint64(load)))
		seq, next := uint64(1), len(c.conns)
		for flip := range 1000 {
			full := make(map[BackendID]bool)
			for range rng.IntN(all) {
				full[r.backends[rng.IntN(all)]] = true
			}
			var open []BackendID
			for _, b := range r.backends {
				limit := uint32(1 << 20)
				if full[b] {
					limit = 0
				} else {
					open = append(open, b)
				}
				r.setCredit(b, Credit{Seq: seq, Limit: limit, TTL: 60 * second, Restarted: true})
			}
			seq++
			if flip%40 == 0 { // the rest of the time the ring does not know yet, and credit alone decides
				r.setRing(r.vips[0], spread(open, 4096))
			}
			if n := c.moved(4999); n != 0 {
				t.Fatalf("%d %%, flip %d: %d flows moved", load, flip, n)
			}
			for range 3 {
				to := r.to(r.send(client(next).tcp(packet.SYN, "")))
				next++
				for b := range full {
					if to == backendAddress(int(b)-1) {
						t.Fatalf("%d %%, flip %d: new flow on full backend %v", load, flip, to)
					}
				}
			}
			if flip%100 == 99 {
				r.Sweep(Timeouts{})
			}
		}
		if n := c.moved(1); n != 0 {
			t.Errorf("%d %%: %d of %d flows moved", load, n, len(c.conns))
		}
	}
}

// TestFlowsOnOtherCPUs: the table is one for all CPUs.
func TestFlowsOnOtherCPUs(t *testing.T) {
	r := newRig(t, Options{}, 10)
	for i := range 200 {
		c := client(i)
		var at [4]netip.Addr
		for j, flags := range []uint8{packet.SYN, packet.ACK, packet.ACK, packet.ACK} {
			res, err := bpf.TestRun(r.Program(), bpf.Run{Packet: c.tcp(flags, ""), Pin: true, CPU: j % r.cpus})
			r.must(err)
			at[j] = r.to(res)
		}
		if at[0] != at[1] || at[1] != at[2] || at[2] != at[3] {
			t.Fatalf("flow %d went to %v as its packets came on CPUs in turn", i, at)
		}
	}
}

// TestFloods: SYNs and ACKs of invented clients, many more than the table has places, move no established flow.
// D2, and its mutants.
func TestFloods(t *testing.T) {
	for _, c := range []struct {
		name   string
		flags  uint8
		mutant uint32
	}{
		{"SYN", packet.SYN, mutant.EvictAny},
		{"ACK", packet.ACK, mutant.ACKEvicts},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n := underFlood(t, mutant.None, c.flags); n != 0 {
				t.Errorf("%d established flows moved", n)
			}
			if n := underFlood(t, c.mutant, c.flags); n == 0 {
				t.Error("the mutant was not noticed")
			}
		})
	}
}

// underFlood fills a small table to 60 % with connections, floods it with ten times its size, changes the ring so
// that whoever lost its entry is seen, and counts those.
func underFlood(t *testing.T, mutant uint32, flags uint8) int {
	const capacity = 1024
	r := newRig(t, mutated(Options{Flows: capacity}, mutant), 20)
	c := newCrowd(t, r, capacity*6/10)
	for i := range 10 * capacity {
		r.send(client(1<<20+i).tcp(flags, ""))
	}
	r.setRing(r.vips[0], spread(r.backends[:1], 64))
	return c.moved(1)
}

// TestFullTable: what has no slot goes to the overflow table; when that is full too, new flows are refused and the
// old ones stay.
func TestFullTable(t *testing.T) {
	fill := func(m uint32) (moved int, r *rig) {
		r = newRig(t, mutated(Options{Flows: 512}, m), 20)
		c := &crowd{rig: r}
		for i := range 620 {
			one := client(i)
			at := r.to(r.send(one.tcp(packet.SYN, "")))
			if at.IsValid() && r.to(r.send(one.tcp(packet.ACK, ""))) == at {
				c.conns, c.at = append(c.conns, one), append(c.at, at)
			}
		}
		r.setRing(r.vips[0], spread(r.backends[:1], 64))
		return c.moved(1), r
	}
	moved, r := fill(mutant.None)
	n := r.Count()
	if moved != 0 || n.Overflow == 0 || n.Total() < 550 {
		t.Errorf("%d flows moved; table %+v", moved, n)
	}
	if _, mutated := fill(mutant.NoOverflow); mutated.Count().Overflow != 0 || mutated.Count().Total() >= n.Total() {
		t.Errorf("the mutant was not noticed: table %+v", mutated.Count())
	}
	for i := range 5000 {
		one := client(5000 + i)
		r.send(one.tcp(packet.SYN, ""))
		r.send(one.tcp(packet.ACK, ""))
	}
	since := reasons{}
	r.grown(since)
	refused := 0
	for i := range 100 {
		if r.send(client(1<<16+i).tcp(packet.SYN, "")).Verdict == xdpDrop {
			refused++
		}
	}
	if got := r.grown(since); refused == 0 {
		t.Errorf("a full table refused nobody: %s", got)
	}
}

// TestDuplicateSYN: a SYN on a live connection, the client's own or somebody's guess, changes nothing, whatever ring
// and credit say by then.
func TestDuplicateSYN(t *testing.T) {
	repeat := func(m uint32) (moved int) {
		r := newRig(t, mutated(Options{}, m), 20)
		c := newCrowd(t, r, 50)
		r.setRing(r.vips[0], spread(r.backends[:2], 64))
		for i, one := range c.conns {
			if r.to(r.send(one.tcp(packet.SYN, ""))) != c.at[i] {
				moved++
			}
		}
		return moved + c.moved(1)
	}
	if n := repeat(mutant.None); n != 0 {
		t.Errorf("%d flows moved", n)
	}
	if repeat(mutant.SYNRepeats) == 0 {
		t.Error("the mutant was not noticed")
	}
}

// TestRemovedBackend: its flows are dead at once and go where the ring says; the others' stay.
func TestRemovedBackend(t *testing.T) {
	remove := func(m uint32) (dead, moved int) {
		r := newRig(t, mutated(Options{}, m), 10)
		c := newCrowd(t, r, 500)
		gone := backendAddress(3)
		list := backends(10)
		r.setBackends(append(list[:3:3], list[4:]...)...)
		r.setRing(r.vips[0], spread(r.backends, 4096))
		// The number is free again after a sweep; the old entries must not be the new owner's.
		r.Sweep(Timeouts{})
		for i := range c.conns {
			to := r.to(r.send(c.conns[i].tcp(packet.ACK, "")))
			switch {
			case c.at[i] == gone && to == gone:
				dead++
			case c.at[i] != gone && to != c.at[i]:
				moved++
			}
		}
		return dead, moved
	}
	if dead, moved := remove(mutant.None); dead+moved != 0 {
		t.Errorf("%d packets went to a removed backend, %d flows of others moved", dead, moved)
	}
}

// TestReusedBackendID: entries of the backend that had the number before are not taken for the new one's.
func TestReusedBackendID(t *testing.T) {
	reuse := func(m uint32) (wrong int) {
		r := newRig(t, mutated(Options{}, m), 2)
		c := newCrowd(t, r, 200)
		lines := append(r.shared.flows.Elems[:0:0], r.shared.flows.Elems...)
		r.setBackends(backends(1)...)
		for _, v := range r.vips {
			r.setRing(v, r.backends)
		}
		r.Sweep(Timeouts{})
		r.setBackends(backends(3)[0], backends(3)[2])
		copy(r.shared.flows.Elems, lines) // a packet's own write that came late, say
		for i := range c.conns {
			if to := r.to(r.send(c.conns[i].tcp(packet.ACK, ""))); to == backendAddress(2) {
				wrong++
			}
		}
		return wrong
	}
	if n := reuse(mutant.None); n != 0 {
		t.Errorf("%d packets went to the backend that inherited a number", n)
	}
	if reuse(mutant.GenerationForgot) == 0 {
		t.Error("the mutant was not noticed")
	}
}

// TestFlowsOfRemovedBackend: whoever was at a backend that has gone opens a new connection at another, at once and once,
// wherever in its lines the old entry stands.
func TestFlowsOfRemovedBackend(t *testing.T) {
	r := newRig(t, Options{Flows: 1 << 10}, 2)
	var conns []conn
	for i := range 500 {
		if c := client(i); r.establish(c) == backendAddress(1) {
			conns = append(conns, c)
		}
	}
	for _, v := range r.vips {
		r.setRing(v, r.backends[:1])
	}
	gone := r.backends[1]
	r.setBackends(backends(1)...)
	for _, c := range conns {
		if at := r.establish(c); at != backendAddress(0) {
			t.Fatalf("%v: went to %v", c.src, at)
		}
	}
	if n := r.Count(); n.Total() != 500 {
		t.Errorf("%d flows, want 500; backend %d has gone", n.Total(), gone)
	}
	if n := r.Counters().Reasons; len(n) != 0 {
		t.Errorf("counted %v", n)
	}
}

// TestEntryGivesWay: a half-open entry that gives way to another flow's while a packet looks at it does not lend the packet
// that flow's backend.
func TestEntryGivesWay(t *testing.T) {
	r := newRig(t, Options{Flows: 64}, 2)
	r.setRing(r.vips[0], r.backends[:1])
	c := client(1)
	r.send(c.tcp(packet.SYN, ""))
	hash := r.key.flow(c.src, c.dst, 6)
	line, other := &r.shared.flows.Elems[r.lineOf(hash)].Entry, &r.shared.flows.Elems[r.otherLine(r.lineOf(hash), printOf(hash))].Entry
	slot := &line[homeSlot(printOf(hash))]
	mine, theirs := *slot, uint64(pack(1, r.backends[1], 0, Opening, packed(*slot).seen()))
	if packed(mine).print() != printOf(hash) {
		t.Fatal("the flow is not in its home slot")
	}
	for i := range 2 * slotsPerLine { // no room for another entry of the flow
		if at := &[2]*[slotsPerLine]uint64{line, other}[i/slotsPerLine][i%slotsPerLine]; at != slot {
			*at = uint64(pack(uint64(2+i), r.backends[0], 0, Established, 0))
		}
	}
	var stop atomic.Bool
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for !stop.Load() {
			atomic.StoreUint64(slot, theirs)
			atomic.StoreUint64(slot, mine)
		}
	}()
	wrong := 0
	for range 20_000 {
		if r.to(r.send(c.tcp(packet.ACK, ""))) == backendAddress(1) {
			wrong++
		}
	}
	stop.Store(true)
	<-stopped
	if wrong != 0 {
		t.Errorf("%d packets went to another flow's backend", wrong)
	}
}
