package table

import (
	"iter"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

// FlowState is how far a flow has come.
type FlowState uint8

// States, as in bpf/lb/flow.h. Opening and Tentative are half-open: they give way to new flows.
const (
	Opening     FlowState = iota // SYN seen
	Tentative                    // one packet of UDP, or of a TCP flow that began elsewhere
	Established                  // TCP, both sides have spoken
	Brief                        // TCP that is closing, or UDP: forgotten sooner
)

func (s FlowState) String() string {
	return [...]string{"opening", "tentative", "established", "brief"}[s&3]
}

// packed is an entry: print 33 | seen 8 | generation 4 | credited 1 | state 2 | backend 16.
type packed uint64

const credited = 1 << 18

func pack(print uint64, b BackendID, generation uint8, s FlowState, seen uint8) packed {
	return packed(print<<31 | uint64(seen)<<23 | uint64(generation&15)<<19 | uint64(s)<<16 | uint64(b))
}

func (e packed) print() uint64      { return uint64(e >> 31) }
func (e packed) seen() uint8        { return uint8(e >> 23) }
func (e packed) generation() uint8  { return uint8(e>>19) & 15 }
func (e packed) credited() bool     { return e&credited != 0 }
func (e packed) state() FlowState   { return FlowState(e>>16) & 3 }
func (e packed) backend() BackendID { return BackendID(e) }
func (e packed) halfOpen() bool     { return e.state() <= Tentative }

// unit is the shift from nanoseconds to what `seen` counts in.
func (s FlowState) unit() uint {
	if s <= Tentative {
		return 30
	}
	return 34
}

func (s FlowState) seenAt(now uint64) uint8 { return uint8(now >> s.unit()) }

// idle is how long ago an entry was last written, in whole units: it is not that long, or just so.
func (e packed) idle(now uint64) time.Duration {
	return time.Duration(e.state().seenAt(now)-e.seen()) << e.state().unit()
}

// printOf, lineOf and otherLine are print_of_hash, the first line and other_line of bpf/lb/flow.h.
func printOf(hash uint64) uint64 { return hash&0xffffffff<<1 | hash>>63 }

func (t *Table) lineOf(hash uint64) uint32 { return uint32(hash>>32) & t.lineMask() }

func (t *Table) otherLine(line uint32, print uint64) uint32 {
	return (line ^ (uint32(print*0x5bd1e995) | 1)) & t.lineMask()
}

func (t *Table) lineMask() uint32 { return uint32(len(t.shared.flows.Elems) - 1) }

// alive: the entry's backend is the one it was written for.
func (t *Table) alive(e packed) bool {
	generation, used := t.generation(e.backend())
	return used && generation == e.generation()
}

// Flow is an entry of the table. It does not hold whose flow it is: line and print are made of a keyed hash.
type Flow struct {
	Line    uint32 // first line it may be in; the overflow table has none
	Print   uint64
	Backend BackendID
	State   FlowState
	Idle    time.Duration // to a second while half-open, to 17 s afterwards
}

// line walks through the entries of a line.
func (t *Table) line(i int) iter.Seq2[int, packed] {
	return func(yield func(int, packed) bool) {
		entries := &t.shared.flows.Elems[i].Entry
		for slot := range entries {
			if e := packed(atomic.LoadUint64(&entries[slot])); e != 0 && !yield(slot, e) {
				return
			}
		}
	}
}

// Flows walks through the table while packets change it: a flow that is there all the time is seen once.
func (t *Table) Flows() iter.Seq[Flow] {
	return func(yield func(Flow) bool) {
		now := bpf.Now()
		for line := range t.shared.flows.Elems {
			for _, e := range t.line(line) {
				if t.alive(e) && !yield(Flow{uint32(line), e.print(), e.backend(), e.state(), e.idle(now)}) {
					return
				}
			}
		}
		for hash, e := range t.overflow() {
			if t.alive(e) && !yield(Flow{t.lineOf(hash), e.print(), e.backend(), e.state(), e.idle(now)}) {
				return
			}
		}
	}
}

// overflow walks through the overflow table, which is a hash map of the kernel's. It is empty but for a table
// that is nearly full.
func (t *Table) overflow() iter.Seq2[uint64, packed] {
	if atomic.LoadUint64(&t.control().Overflowed) == 0 {
		return func(func(uint64, packed) bool) {}
	}
	return walk(t.loaded.Maps["overflow"])
}

// walk walks through an overflow table.
func walk(m *ebpf.Map) iter.Seq2[uint64, packed] {
	return func(yield func(uint64, packed) bool) {
		hashes, entries := make([]uint64, 1024), make([]packed, 1024)
		var at ebpf.MapBatchCursor
		for {
			n, err := m.BatchLookup(&at, hashes, entries, nil)
			for i := range n {
				if !yield(hashes[i], entries[i]) {
					return
				}
			}
			if err != nil || n == 0 { // ErrKeyNotExist: that was the last batch
				return
			}
		}
	}
}

// FlowCount is how full the table is.
type FlowCount struct {
	Capacity int
	ByState  [4]int // by FlowState
	Overflow int
}

// Total is how many flows there are.
func (c FlowCount) Total() int {
	return c.ByState[0] + c.ByState[1] + c.ByState[2] + c.ByState[3]
}

// Count counts.
func (t *Table) Count() FlowCount {
	c := FlowCount{Capacity: len(t.shared.flows.Elems) * slotsPerLine}
	for f := range t.Flows() {
		c.ByState[f.State]++
	}
	for range t.overflow() {
		c.Overflow++
	}
	return c
}
