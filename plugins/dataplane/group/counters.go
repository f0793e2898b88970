package group

import "fmt"

// outcomeNames are those of enum outcome in bpf/group/group.bpf.c.
var outcomeNames = [...]string{
	"sent", "unconfirmed", "unconfirmed-passed", "no-member", "malformed", "fragment", "no-room", "unsettled", "rebound", "uncached",
}

// Count is what a member has been sent.
type Count struct {
	Packets, Bytes uint64
	Flows          uint64 // that were bound to it
}

// Outcomes counts packets by what became of them.
func (d *Datapath) Outcomes() map[string]uint64 {
	var perCPU [][len(outcomeNames)]uint64
	out := make(map[string]uint64, len(outcomeNames))
	if err := d.loaded.Maps["group_outcomes"].Lookup(uint32(0), &perCPU); err != nil {
		return out
	}
	for i, name := range outcomeNames {
		for _, c := range perCPU {
			out[name] += c[i]
		}
	}
	return out
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

// String is for logs.
func (c Count) String() string {
	return fmt.Sprintf("%d packets, %d bytes, %d flows", c.Packets, c.Bytes, c.Flows)
}
