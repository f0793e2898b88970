package group

import "fmt"

// OutcomeNames are those of enum outcome in bpf/group/maps.h.
func OutcomeNames() [outcomeCount]string {
	return [...]string{
		"sent", "unconfirmed", "unconfirmed-passed", "no-member", "malformed", "fragment", "no-room", "unsettled", "rebound", "uncached",
	}
}

// dropped are the outcomes in which a packet went nowhere.
func dropped(i int) bool { return i == 1 || i >= 3 && i <= 7 }

// Dropped is the sum of all packets that went nowhere.
func (o Outcomes) Dropped() (n uint64) {
	for i, c := range o {
		if dropped(i) {
			n += c
		}
	}
	return n
}

// Sent is the sum of all packets that were sent to a member.
func (o Outcomes) Sent() (n uint64) {
	for i, c := range o {
		if !dropped(i) && i != 2 { // passed ones are among the sent
			n += c
		}
	}
	return n
}

// Count is what a member has been sent.
type Count struct {
	Packets, Bytes uint64
	Flows          uint64 // that were bound to it
}

// Outcomes counts packets by what became of them.
func (d *Datapath) Outcomes() (o Outcomes, err error) {
	var perCPU []Outcomes
	if err := d.loaded.Maps["group_outcomes"].Lookup(uint32(0), &perCPU); err != nil {
		return o, fmt.Errorf("read outcomes: %w", err)
	}
	for _, c := range perCPU {
		for i, n := range c {
			o[i] += n
		}
	}
	return o, nil
}

// Counts are the counters of each group's members by slot.
func (d *Datapath) Counts() map[uint32]map[uint16]Count {
	out := map[uint32]map[uint16]Count{}
	for at := range d.rows.Elems {
		r := &d.rows.Elems[at]
		if r.word == 0 {
			continue
		}
		of := map[uint16]Count{}
		h := &d.halves.Elems[2*at+int(r.word&1)]
		for slot := range h.members {
			var perCPU []Count
			if h.members[slot].vni == 0 || d.loaded.Maps["group_counts"].Lookup(uint32(at*MaxMembers+slot), &perCPU) != nil {
				continue
			}
			var sum Count
			for _, c := range perCPU {
				sum = Count{sum.Packets + c.Packets, sum.Bytes + c.Bytes, sum.Flows + c.Flows}
			}
			of[uint16(slot)] = sum
		}
		out[r.tag] = of
	}
	return out
}
