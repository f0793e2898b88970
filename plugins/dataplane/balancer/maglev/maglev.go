// Package maglev fills the ring that spreads new connections over backends.
//
// It is the table of "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016, section 3.4) with
// weights: every backend walks the ring's places in an order of its own, drawn from its key, and takes the next free
// one when it is its turn. Turns come in proportion to the weights, so each backend holds its share of the places,
// one more or less, and a change of one backend leaves nearly all places of the others as they were.
//
// The result depends on keys and weights only, never on the order of the members: two balancers with the same
// backends send the same flow to the same one. Fill does no I/O, keeps no state and allocates in proportion to the
// members, not to the ring.
package maglev

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// MaxSize bounds a ring; a place is two bytes in the program's maps.
const MaxSize = 1 << 20

// Member is one backend.
type Member struct {
	// Key tells backends apart and must be the same on every balancer: see Key.
	Key uint64
	// Weight is relative to the other members'; 0 takes no place.
	Weight uint32
	// Value is written at the member's places.
	Value uint16
}

var errSize = errors.New("ring size is not a prime or a power of two")

// Key hashes what names a backend, for example its address. It is FNV-1a, mixed.
func Key(name []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range name {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return mix(h)
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// walker is a member on its way over the ring.
type walker struct {
	place, skip uint32
	weight      uint64
	turn        uint64 // grows by weight each round; a place costs the largest weight
	value       uint16
	key         uint64
}

// Fill writes a value at every place of ring and says how many members hold places. With none it leaves the ring
// alone and returns 0. The ring's length is a prime or a power of two, at least the number of members, at most MaxSize.
func Fill[V ~uint16](ring []V, members []Member) (int, error) {
	size := len(ring)
	if size == 0 || size > MaxSize || !walkable(size) {
		return 0, fmt.Errorf("fill a ring of %d: %w", size, errSize)
	}
	walkers := make([]walker, 0, len(members))
	var largest uint64
	for _, m := range members {
		if m.Weight == 0 {
			continue
		}
		largest = max(largest, uint64(m.Weight))
		walkers = append(walkers, start(m, uint32(size)))
	}
	if len(walkers) == 0 {
		return 0, nil
	}
	if len(walkers) > size {
		return 0, fmt.Errorf("fill a ring of %d: %d members need a larger one", size, len(walkers))
	}
	slices.SortFunc(walkers, func(a, b walker) int { return cmp.Compare(a.key, b.key) })
	for i := 1; i < len(walkers); i++ {
		if walkers[i].key == walkers[i-1].key {
			return 0, fmt.Errorf("fill a ring of %d: two members have the key %#x", size, walkers[i].key)
		}
	}
	for i := range walkers {
		// Half a place in hand rounds shares to the nearest place, so that small weights are not starved.
		walkers[i].turn = largest / 2
	}
	deal(ring, walkers, largest)
	return len(walkers), nil
}

// deal lets the walkers take places by turns until none is left.
func deal[V ~uint16](ring []V, walkers []walker, cost uint64) {
	size := uint32(len(ring))
	taken := make([]uint64, (len(ring)+63)/64)
	for left := len(ring); ; {
		for i := range walkers {
			w := &walkers[i]
			if w.turn += w.weight; w.turn < cost {
				continue
			}
			w.turn -= cost
			for taken[w.place/64]&(1<<(w.place%64)) != 0 {
				w.place = step(w.place, w.skip, size)
			}
			taken[w.place/64] |= 1 << (w.place % 64)
			ring[w.place] = V(w.value)
			if left--; left == 0 {
				return
			}
		}
	}
}

func start(m Member, size uint32) walker {
	w := walker{weight: uint64(m.Weight), value: m.Value, key: m.Key, skip: 1}
	hi, _ := bits.Mul64(mix(m.Key), uint64(size))
	w.place = uint32(hi)
	if size > 2 {
		hi, _ = bits.Mul64(mix(^m.Key), uint64(size-1))
		w.skip = uint32(hi) + 1
		if size&1 == 0 {
			w.skip |= 1 // coprime with a power of two
		}
	}
	return w
}

func step(place, skip, size uint32) uint32 {
	if place += skip; place >= size {
		place -= size
	}
	return place
}

// walkable says whether every skip that start draws visits every place.
func walkable(size int) bool {
	if size&(size-1) == 0 {
		return true
	}
	if size%2 == 0 {
		return false
	}
	for d := 3; d*d <= size; d += 2 {
		if size%d == 0 {
			return false
		}
	}
	return true
}
