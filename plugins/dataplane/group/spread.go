package group

import "math/bits"

// RingSize is how many places the members of a group share. It is a power of two, so that the program masks the
// flow's hash instead of dividing it; with 256 members of one weight each has 16 or more.
const RingSize = 4096

// noMember is the place of nobody.
const noMember = 0xffff

// Spread gives each place of the ring to a member's slot, in proportion to the weights of those that serve. It is
// the Maglev filling (Eisenbud et al., NSDI 2016, section 3.4) with a permutation per member, made of an odd step
// because the size is a power of two: shares are exact to one place, and little moves when a member comes or goes
// (what does is kept where it was by the clients' flow entries).
func Spread(members []Member) *[RingSize]uint16 {
	ring := new([RingSize]uint16)
	for i := range ring {
		ring[i] = noMember
	}
	type turn struct {
		slot       uint16
		weight     uint64
		next, step uint32
		credit     uint64
	}
	var turns []turn
	var heaviest uint64
	for _, m := range members {
		if m.State != Serving {
			continue
		}
		// The permutation hangs on the member's identity, not on its place in the list.
		h := mix(uint64(m.VNI)<<16 | uint64(m.Slot))
		turns = append(turns, turn{slot: m.Slot, weight: uint64(m.Weight), next: uint32(h), step: uint32(h>>32) | 1})
		heaviest = max(heaviest, uint64(m.Weight))
	}
	if len(turns) == 0 {
		return ring
	}
	for left := RingSize; ; {
		for i := range turns {
			t := &turns[i]
			// A member of half the weight takes its turn every second round.
			for t.credit += t.weight; t.credit >= heaviest; t.credit -= heaviest {
				for ring[t.next%RingSize] != noMember {
					t.next += t.step
				}
				ring[t.next%RingSize] = t.slot
				if left--; left == 0 {
					return ring
				}
			}
		}
	}
}

// mix spreads the bits of a key over the word: two rounds of multiply and fold.
func mix(x uint64) uint64 {
	for _, k := range []uint64{0x9e3779b97f4a7c15, 0xd6e8feb86659fd93} {
		hi, lo := bits.Mul64(x^k, k)
		x = hi ^ lo
	}
	return x
}
