package table

import (
	"errors"
	"os"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// TestAnotherSize: a table is opened with more places, or fewer, while the program before goes on. No flow moves, also not one
// that began while both were there, and half-open ones give their credit back.
func TestAnotherSize(t *testing.T) {
	for name, c := range map[string]struct {
		before, after, flows int
		left                 bool // a process has left the change half done
	}{
		"larger":    {before: 1 << 12, after: 1 << 15, flows: 3600},
		"smaller":   {before: 1 << 14, after: 1 << 12, flows: 2400},
		"half done": {before: 1 << 12, after: 1 << 13, flows: 3600, left: true},
	} {
		t.Run(name, func(t *testing.T) {
			pins := bpffs(t)
			ns := nettest.New(t)
			ns.IP("link add v0 type veth peer name v1")
			attach := func(r *rig) {
				ns.Run(func() {
					a, err := r.Attach(ns.Index("v0"))
					r.must(err)
					t.Cleanup(func() { _ = a.Close() })
				})
			}
			old := newRig(t, Options{Pins: pins, Flows: c.before}, 20)
			for _, b := range old.backends {
				old.setCredit(b, Credit{Seq: 1, Limit: 10_000, TTL: 3600 * second})
			}
			attach(old)
			all := newCrowd(t, old, c.flows)
			old.age(2)
			if c.left {
				open(t, Options{Pins: pins, Flows: c.after})
			}
			next := &rig{TB: t, Table: open(t, Options{Pins: pins, Flows: c.after})}
			if !next.TookOver() {
				t.Error("the flows were not taken over")
			}
			for i := range 100 { // by the program that is on the interface still
				all.conns = append(all.conns, client(c.flows+i))
				all.at = append(all.at, old.establish(client(c.flows+i)))
			}
			for i := range 50 {
				old.send(client(c.flows+1000+i).tcp(packet.SYN, ""))
			}
			next.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80}, VIP{Address: vip6, Protocol: TCP, First: 80, Last: 80})
			next.setBackends(backends(20)...)
			old.age(2)
			n := old.Count().ByState
			halfOpen, before := n[Opening]+n[Tentative], next.allLeft()
			attach(next)
			if got := next.allLeft() - before; got != halfOpen || got == 0 {
				t.Errorf("%d credits came back, want those of %d half-open flows", got, halfOpen)
			}

			for _, v := range next.vips { // whoever is not known goes there
				next.setRing(v, next.backends[:1])
			}
			all.rig = next
			if got := all.moved(1); got != 0 {
				t.Errorf("%d of %d flows moved", got, len(all.conns))
			}
			if next.copies != nil { // the packets came later than the copies were made
				next.copies.made--
				next.copies.looked--
				next.Sweep(Timeouts{})
			}
			if got := next.Count().Total(); got != len(all.conns) {
				t.Errorf("the table has %d entries of %d flows", got, len(all.conns))
			}
			if got := all.moved(1); got != 0 {
				t.Errorf("%d of %d flows moved after a sweep", got, len(all.conns))
			}
			if got := next.Count().Capacity; got != c.after {
				t.Errorf("the table has %d places, want %d", got, c.after)
			}
			if to := next.to(next.send(client(1<<20).tcp(packet.SYN, ""))); to != backendAddress(0) {
				t.Errorf("a new flow went to %v", to)
			}
			for _, name := range resized {
				if _, err := os.Stat(next.pins.Path(name + asideSuffix)); !errors.Is(err, errNotExist) {
					t.Errorf("%s is still there: %v", name+asideSuffix, err)
				}
			}
		})
	}
}

// allLeft is how many more flows all backends may be given.
func (r *rig) allLeft() (n int) {
	for _, b := range r.backends {
		n += int(r.CreditOf(b).Left)
	}
	return n
}

// age makes entries look as if their last packet had come so many times 17 s ago.
func (r *rig) age(units uint8) {
	for line := range r.shared.flows.Elems {
		for slot, e := range r.shared.flows.Elems[line].Entry {
			if p := packed(e); e != 0 {
				r.shared.flows.Elems[line].Entry[slot] = uint64(pack(p.print(), p.backend(), p.generation(), p.state(), p.seen()-units) | p&credited)
			}
		}
	}
}
