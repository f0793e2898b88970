package table

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"

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

// InsertFlows enters flows that another balancer has seen. One that is there already keeps its backend and is
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
		if t.insert(hash, r.Backend, r.State, now) {
			n++
		}
	}
	return n, errors.Join(errs...)
}

func (t *Table) usable(id BackendID) bool {
	return id != 0 && int(id) < len(t.shared.backends.Elems) && t.shared.backends.Elems[id].Used != 0
}

const insertTries = 4

func (t *Table) insert(hash uint64, b BackendID, s FlowState, now uint64) bool {
	print := printOf(hash)
	line := t.lineOf(hash)
	for range insertTries {
		done, full := t.insertPrint(line, print, b, s, now, now)
		if done {
			return true
		}
		if !full {
			continue
		}
		e := pack(print, b, t.shared.backends.Elems[b].Generation, s, s.seenAt(now))
		if t.loaded.Maps["overflow"].Update(hash, e, ebpf.UpdateNoExist) != nil {
			return false
		}
		atomic.AddUint64(&t.control().Overflowed, 1)
		return true
	}
	return false
}

// insertPrint enters a flow of which only the print is known. Not done and not full: a packet came between.
func (t *Table) insertPrint(line uint32, print uint64, b BackendID, s FlowState, now, seen uint64) (done, full bool) {
	lines := [2]*[slotsPerLine]uint64{
		&t.shared.flows.Elems[line].Entry, &t.shared.flows.Elems[t.otherLine(line, print)].Entry,
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
			case e.print() == print:
				return t.refresh(&l[slot], e, s, seen), false
			case e.halfOpen() && (victim == nil || e.idle(now) > victimEntry.idle(now)):
				victim, victimEntry = &l[slot], e
			}
		}
	}
	entry := uint64(pack(print, b, t.shared.backends.Elems[b].Generation, s, s.seenAt(seen)))
	i := 0
	if bits.OnesCount(free[1]) > bits.OnesCount(free[0]) {
		i = 1
	}
	if free[i] != 0 {
		slot := &lines[i][bits.TrailingZeros(free[i])]
		old := atomic.LoadUint64(slot)
		return (old == 0 || !t.alive(packed(old))) && atomic.CompareAndSwapUint64(slot, old, entry), false
	}
	if victim == nil || s <= Tentative {
		return false, true
	}
	if !atomic.CompareAndSwapUint64(victim, uint64(victimEntry), entry) {
		return false, false
	}
	t.finish(victimEntry)
	return true, false
}

// refresh marks an entry as seen then, unless it was seen later; a half-open one takes the state that the other
// balancer has seen.
func (t *Table) refresh(slot *uint64, e packed, s FlowState, then uint64) bool {
	if !e.halfOpen() && s <= Tentative {
		s = e.state()
	}
	seen := s.seenAt(then)
	if s.unit() == e.state().unit() && int8(seen-e.seen()) < 0 {
		seen = e.seen()
	}
	next := pack(e.print(), e.backend(), e.generation(), s, seen) | e&credited
	return atomic.CompareAndSwapUint64(slot, uint64(e), uint64(next))
}

// RawFlow is an entry as another table of the same key and size can take it.
type RawFlow struct {
	Line    uint32
	Print   uint64
	Backend BackendID
	State   FlowState
	Idle    time.Duration // in units of 17 s, as Flow has it
}

// Key is the key of this table's hash.
func (t *Table) Key() Key { return t.key }

// Lines is the other half of what two tables must have in common to exchange raw entries.
func (t *Table) Lines() int { return len(t.shared.flows.Elems) }

// Export walks through all flows that are worth keeping: those that both sides have spoken in.
func (t *Table) Export() iter.Seq[RawFlow] {
	return func(yield func(RawFlow) bool) {
		for f := range t.Flows() {
			if f.State > Tentative && !yield(RawFlow{f.Line, f.Print, f.Backend, f.State, f.Idle}) {
				return
			}
		}
	}
}

// Import enters what another table exported, with the backends' ids of this one. Key and Lines of both must be
// the same. It returns how many are in the table now.
func (t *Table) Import(flows []RawFlow) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := bpf.Now()
	for _, f := range flows {
		if f.Line > t.lineMask() || f.Print>>33 != 0 || !t.usable(f.Backend) || f.State > Brief {
			err = errors.New("some flows have a line, print, backend or state that this table cannot have")
			continue
		}
		for range insertTries {
			done, full := t.insertPrint(f.Line, f.Print, f.Backend, f.State, now, now-min(now, uint64(max(f.Idle, 0))))
			if done {
				n++
			}
			if done || full {
				break
			}
		}
	}
	return n, err
}
