package table

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

// FlowRecord is a flow by its addresses: what another balancer tells.
type FlowRecord struct {
	VIP      VIPID // ours, found by identity
	Client   netip.AddrPort
	Local    netip.AddrPort
	Protocol uint8
	Backend  BackendID
	State    FlowState
}

// InsertFlows enters flows that another balancer has seen. One that is there already and open keeps its backend and is
// marked as just seen. It returns how many are in the table now; those for which it had no room are left out.
func (t *Table) InsertFlows(records []FlowRecord) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := bpf.Now()
	var errs []error
	for _, r := range records {
		if int(r.VIP) >= len(t.shared.vips.Elems) || t.shared.vips.Elems[r.VIP].Used == 0 || !r.Client.IsValid() ||
			r.Client.Addr().Is4() != r.Local.Addr().Is4() || !t.usable(r.Backend) || r.State > Brief {
			errs = append(errs, fmt.Errorf("flow %v to VIP %d, backend %d: no such thing here", r.Client, r.VIP, r.Backend))
			continue
		}
		hash := t.key.flow(r.Client, r.Local, r.Protocol)
		if t.insert(arrival{line: t.lineOf(hash), print: printOf(hash), hash: hash, backend: r.Backend, state: r.State, now: now, seen: now}) {
			n++
		}
	}
	return n, errors.Join(errs...)
}

func (t *Table) usable(id BackendID) bool {
	_, used := t.generation(id)
	return used
}

// arrival is a flow on its way into the table.
type arrival struct {
	line    uint32
	print   uint64
	hash    uint64 // 0: not known
	backend BackendID
	state   FlowState
	now     uint64
	seen    uint64 // when a packet of it was seen last
	stay    bool   // in this line, if it has room: it had room for the flow in the other table
	claim   claim  // against an entry of the same flow
}

// claim is what an arrival is worth against an entry of the same flow.
type claim uint8

const (
	reported claim = iota // another balancer has just seen it: an open entry keeps its backend, takes the state and is as young
	exported              // another balancer's entry: as reported, but its state may be the older one
	guessed               // perhaps older: the entry stays as it is
	known                 // the entry takes its backend
)

// replaces says whether the entry takes the arrival's backend. Behind one that has closed an open flow is the client's next
// connection, which goes where new ones go.
func (a arrival) replaces(e packed) bool {
	next := e.state() == Brief && a.state == Established
	switch a.claim {
	case known:
		return true
	case reported:
		return next
	case exported:
		return next && int8(a.state.seenAt(a.seen)-e.seen()) > 0
	}
	return false
}

const insertTries = 4

// insert reports whether the flow is in the table now.
func (t *Table) insert(a arrival) bool {
	for range insertTries {
		done, full := t.insertInLines(a)
		if done {
			return true
		}
		if full {
			return a.hash != 0 && t.insertOverflow(a)
		}
	}
	return false
}

func (t *Table) entry(a arrival) packed {
	generation, _ := t.generation(a.backend)
	return pack(a.print, a.backend, generation, a.state, a.state.seenAt(a.seen))
}

func (t *Table) insertOverflow(a arrival) bool {
	err := t.loaded.Maps["overflow"].Update(a.hash, t.entry(a), ebpf.UpdateNoExist)
	if err == nil {
		atomic.AddUint64(&t.control().Overflowed, 1)
	}
	return err == nil || errors.Is(err, ebpf.ErrKeyExist)
}

// spare and homeSlot are SPARE and home_slot of bpf/lb/flow.h: where the program looks first.
const spare = 5

func homeSlot(print uint64) int { return int(print % slotsPerLine) }

// insertInLines enters a flow into one of its two lines. Not done and not full: a packet came between.
func (t *Table) insertInLines(a arrival) (done, full bool) {
	lines := [2]*[slotsPerLine]uint64{
		&t.shared.flows.Elems[a.line].Entry, &t.shared.flows.Elems[t.otherLine(a.line, a.print)].Entry,
	}
	var free [2]uint
	var victim *uint64
	var victimEntry packed
	for i, l := range lines {
		for slot := range l {
			e := packed(atomic.LoadUint64(&l[slot]))
			switch {
			case e == 0 || !t.alive(e):
				free[i] |= 1 << slot
			case e.print() == a.print && a.claim == guessed:
				return true, false
			case e.print() == a.print && e.backend() != a.backend && a.replaces(e):
				return atomic.CompareAndSwapUint64(&l[slot], uint64(e), uint64(t.entry(a))), false
			case e.print() == a.print:
				return t.refresh(&l[slot], e, a), false
			case e.halfOpen() && (victim == nil || e.idle(a.now) > victimEntry.idle(a.now)):
				victim, victimEntry = &l[slot], e
			}
		}
	}
	i := 0
	if n := bits.OnesCount(free[0]); n < spare && bits.OnesCount(free[1]) > n && (!a.stay || n == 0) {
		i = 1
	}
	if free[i] != 0 {
		at := homeSlot(a.print)
		if free[i]>>at&1 == 0 {
			at = bits.TrailingZeros(free[i])
		}
		slot := &lines[i][at]
		old := atomic.LoadUint64(slot)
		return (old == 0 || !t.alive(packed(old))) && atomic.CompareAndSwapUint64(slot, old, uint64(t.entry(a))), false
	}
	if victim == nil || a.state <= Tentative {
		return false, true
	}
	if !atomic.CompareAndSwapUint64(victim, uint64(victimEntry), uint64(t.entry(a))) {
		return false, false
	}
	t.finish(victimEntry)
	return true, false
}

// refresh marks an entry as seen when the arrival was, unless it was seen later; a half-open one takes the state that
// the other balancer has seen. A settled one takes that of an exported entry only if that was seen later: of two that
// were seen at the same time each may be the older state, and the one that is forgotten sooner is right more often.
func (t *Table) refresh(slot *uint64, e packed, a arrival) bool {
	s := a.state
	if !e.halfOpen() && s <= Tentative {
		s = e.state()
	}
	seen := s.seenAt(a.seen)
	if s.unit() == e.state().unit() {
		later := int8(seen - e.seen())
		if a.claim == exported && !e.halfOpen() && (later < 0 || later == 0 && s == Established) {
			s = e.state()
		}
		if later < 0 {
			seen = e.seen()
		}
	}
	next := pack(e.print(), e.backend(), e.generation(), s, seen) | e&credited
	return atomic.CompareAndSwapUint64(slot, uint64(e), uint64(next))
}
