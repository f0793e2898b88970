package table

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// A table that is opened with another number of flows than the pinned one gets new maps for them, and takes its flows along.
//
// Of a flow the maps hold the print and the low bits of the hash that make the line, not all of it. A table with k times the lines
// has k lines whose low bits are those of the old one, and the flow's is one of them: it is entered into all. That fills no line
// more than the old one was. Once a packet has come to one of them the others are known to be nobody's, and a sweep takes them out;
// those of idle flows time out. They are mistaken for another flow no more often than the entry itself was. In a smaller table
// several lines become one.
//
// Until the new program is on the interface the old one goes on with the old maps, so flows are carried twice: when the table is
// opened, and when the program has changed places. Half-open ones are not: their next packet is chosen for by the same ring, and
// their credit goes back.

// asideSuffix marks the pins of maps that were replaced and may still be in use.
const asideSuffix = "_before"

// resized are the maps that depend on the number of flows.
var resized = [...]string{"flows", "overflow"}

// outgrown is the flow table of another size.
type outgrown struct {
	flows    *bpf.Shared[lb.FlowLine]
	overflow *ebpf.Map // nil: it is the one in use
	// claim is what its entries are worth while the program that uses it is in force. Of one that an earlier process has left
	// nobody knows whether it still is.
	claim claim
}

// setAside makes room for maps of the wanted sizes, if the pinned ones have others, and opens those that were set aside, now or by
// a process that did not come to its end. One table is set aside at a time.
func (t *Table) setAside(sizes, wanted map[string]uint32) error {
	there, err := t.pinned(resized[0] + asideSuffix)
	if err != nil {
		return err
	}
	o := &outgrown{claim: guessed}
	if there == nil && sizes["flows"] != wanted["flows"] {
		o.claim = known
		for _, name := range resized {
			err := os.Rename(t.pins.Path(name), t.pins.Path(name+asideSuffix))
			if err != nil && !errors.Is(err, errNotExist) {
				return fmt.Errorf("set the flow table aside: %w", err)
			}
			sizes[name] = wanted[name]
		}
		if there, err = t.pinned(resized[0] + asideSuffix); err != nil {
			return err
		}
	}
	if there == nil {
		return nil
	}
	o.flows, err = bpf.Map[lb.FlowLine](there)
	if err := errors.Join(err, there.Close()); err != nil {
		return fmt.Errorf("read the flow table that was set aside: %w", err)
	}
	if o.overflow, err = t.pinned("overflow" + asideSuffix); err != nil {
		return errors.Join(err, o.flows.Close())
	}
	t.before = o
	return nil
}

// pinned opens a pinned map, nil if there is none.
func (t *Table) pinned(name string) (*ebpf.Map, error) {
	if t.pins == nil {
		return nil, nil
	}
	m, err := ebpf.LoadPinnedMap(t.pins.Path(name), nil)
	if errors.Is(err, errNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned map %s: %w", name, err)
	}
	return m, nil
}

// carried counts flows of a table that was set aside.
type carried struct{ flows, lost int }

// carry enters the flows of the table that was set aside into this one.
func (t *Table) carry(worth claim) (c carried) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := bpf.Now()
	enter := func(e packed, a arrival) {
		if e.halfOpen() || !t.alive(e) {
			return
		}
		c.flows++
		a.print, a.backend, a.state, a.now, a.seen = e.print(), e.backend(), e.state(), now, now-min(now, uint64(e.idle(now)))
		a.claim = worth
		had := uint32(len(t.before.flows.Elems))
		if a.hash != 0 || had > uint32(t.Lines()) {
			had = uint32(t.Lines()) // its line is known, or one of a few that became one
		}
		for a.line &= had - 1; a.line < uint32(t.Lines()); a.line += had {
			if !t.insert(a) {
				c.lost++
			}
		}
	}
	for line := range t.before.flows.Elems {
		entries := &t.before.flows.Elems[line].Entry
		for slot := range entries {
			if e := packed(atomic.LoadUint64(&entries[slot])); e != 0 {
				enter(e, arrival{line: uint32(line), stay: len(t.before.flows.Elems) < t.Lines()})
			}
		}
	}
	if t.before.overflow != nil {
		for hash, e := range walk(t.before.overflow) {
			enter(e, arrival{line: t.lineOf(hash), hash: hash})
		}
	}
	return c
}

// letGo forgets the table that was set aside, once no program uses it any more.
func (t *Table) letGo() error {
	if err := bpf.Grace(); err != nil {
		return err
	}
	c := t.carry(guessed)
	t.mu.Lock()
	defer t.mu.Unlock()
	returned := 0
	for line := range t.before.flows.Elems {
		for _, entry := range t.before.flows.Elems[line].Entry {
			returned += t.finish(packed(entry))
		}
	}
	if t.before.overflow != nil {
		for _, e := range walk(t.before.overflow) {
			returned += t.finish(e)
		}
	}
	t.log.Info("the flow table has another size", "connections", t.Lines()*slotsPerLine, "before", len(t.before.flows.Elems)*slotsPerLine,
		"flows", c.flows, "no room for", c.lost, "half-open returned", returned)
	if had := uint32(len(t.before.flows.Elems)); had < uint32(t.Lines()) {
		made := Established.seenAt(bpf.Now())
		t.copies = &copies{lines: had, made: made, looked: made}
	}
	err := t.before.close()
	t.before = nil
	for _, name := range resized {
		if e := os.Remove(t.pins.Path(name + asideSuffix)); e != nil && !errors.Is(e, errNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (o *outgrown) close() error {
	if o == nil {
		return nil
	}
	err := o.flows.Close()
	if o.overflow != nil {
		err = errors.Join(err, o.overflow.Close())
	}
	return err
}

// copies are entries in lines of which one is the flow's.
type copies struct {
	lines        uint32 // of the table that they came from
	made, looked uint8  // when, as entries that are not half-open have it
}

// copiesKept is for how long copies are looked for, in the same units: half of what these can tell apart.
const copiesKept = 100

// dropCopies takes out those of flows of which a packet has come since.
func (t *Table) dropCopies(now uint64) (n int) {
	c := t.copies
	if c == nil || c.looked == Established.seenAt(now) {
		return 0
	}
	if c.looked = Established.seenAt(now); c.looked-c.made > copiesKept {
		t.copies = nil
		return 0
	}
	since := func(e packed) bool { return int8(e.seen()-c.made) > 0 }
	own := map[uint64]bool{}
	for base := range int(c.lines) {
		clear(own)
		for line := base; line < t.Lines(); line += int(c.lines) {
			for _, e := range t.line(line) {
				if !e.halfOpen() && since(e) {
					own[e.print()] = true
				}
			}
		}
		if len(own) == 0 {
			continue
		}
		for line := base; line < t.Lines(); line += int(c.lines) {
			for slot, e := range t.line(line) {
				if !e.halfOpen() && own[e.print()] && !since(e) && atomic.CompareAndSwapUint64(&t.shared.flows.Elems[line].Entry[slot], uint64(e), 0) {
					n++
				}
			}
		}
	}
	return n
}
