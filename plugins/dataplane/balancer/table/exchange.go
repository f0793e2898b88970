package table

import (
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

// RawFlow is an entry as another table of the same key and size can take it.
type RawFlow struct {
	// Line is ascending over an Export. From Lines on these are entries of the overflow table, whose Print holds
	// the rest of the flow's hash as well.
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

const (
	printBits = 33
	printMask = 1<<printBits - 1
	// The upper half of a hash but for its highest bit, which is the print's lowest.
	upperMask = 1<<31 - 1
)

// Export walks through all flows that are worth keeping: those that both sides have spoken in.
func (t *Table) Export() iter.Seq[RawFlow] {
	return func(yield func(RawFlow) bool) {
		now := bpf.Now()
		for line := range t.shared.flows.Elems {
			for _, e := range t.line(line) {
				if e.state() > Tentative && t.alive(e) &&
					!yield(RawFlow{uint32(line), e.print(), e.backend(), e.state(), e.idle(now)}) {
					return
				}
			}
		}
		var over []RawFlow
		for hash, e := range t.overflow() {
			if e.state() > Tentative && t.alive(e) {
				line := uint32(t.Lines()) + uint32(hash>>40)
				over = append(over, RawFlow{line, e.print() | hash>>32&upperMask<<printBits, e.backend(), e.state(), e.idle(now)})
			}
		}
		slices.SortFunc(over, func(a, b RawFlow) int { return int(a.Line) - int(b.Line) })
		for _, f := range over {
			if !yield(f) {
				return
			}
		}
	}
}

var errForeign = errors.New("some flows have a line, print, backend or state that this table cannot have")

// Import enters what another table exported, with the backends' ids of this one. Key and Lines of both must be
// the same. It returns how many are in the table now.
func (t *Table) Import(flows []RawFlow) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := bpf.Now()
	for _, f := range flows {
		a := arrival{line: f.Line, print: f.Print, backend: f.Backend, state: f.State, now: now, seen: now - min(now, uint64(max(f.Idle, 0))), stay: true, claim: exported}
		if int(f.Line) >= t.Lines() {
			a.print &= printMask
			a.hash = (f.Print>>printBits|a.print<<31&(1<<31))<<32 | a.print>>1
			a.line = t.lineOf(a.hash)
		}
		if a.print > printMask || !t.usable(f.Backend) || f.State > Brief {
			err = errForeign
			continue
		}
		if t.insert(a) {
			n++
		}
	}
	return n, err
}
