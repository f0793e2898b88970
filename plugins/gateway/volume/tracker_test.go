package volume

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// tracker knows every state that a range of a volume, with one writer, has been in: by a sum over its blocks, which each
// change updates. Which of them may be found depends on how one looks: see find.
type tracker struct {
	off, n int64
	data   []byte // as it is when everything issued has been done

	mu      sync.Mutex
	hash    uint64
	seq     int              // of data
	states  map[uint64][]int // when it was in each state, oldest first: a state can come back
	acked   int              // the newest one that was acknowledged
	durable int              // the newest one that a flush has covered
	stored  int              // the newest one that the store is known to have
	blocks  map[int][]change // of each block, oldest first: to tell what is wrong with a state that never was
}

// change is one of a block.
type change struct {
	seq  int
	sum  uint64 // of the block after it
	what string // which bytes of it
}

// hashSeed is one for all trackers, whose sums are compared.
var hashSeed = maphash.MakeSeed()

func newTracker(off, n int64) *tracker {
	t := &tracker{off: off, n: n, data: make([]byte, n)}
	t.hash = t.sum(t.data)
	t.states = map[uint64][]int{t.hash: {0}}
	return t
}

func blockSum(block int, p []byte) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(block))
	var h maphash.Hash
	h.SetSeed(hashSeed)
	_, _ = h.Write(b[:])
	_, _ = h.Write(p)
	return h.Sum64()
}

func (t *tracker) sum(p []byte) (sum uint64) {
	for b := range len(p) / blockSize {
		sum += blockSum(b, p[b*blockSize:(b+1)*blockSize])
	}
	return sum
}

// change puts p at off and remembers the states on the way: a write may be cut between any two of its blocks,
// zeroing only at its ends.
func (t *tracker) change(off int64, p []byte, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	off -= t.off
	if t.blocks == nil {
		t.blocks = make(map[int][]change)
	}
	for len(p) > 0 {
		b := int(off / blockSize)
		n := min(blockSize-off%blockSize, int64(len(p)))
		at := t.data[b*blockSize : (b+1)*blockSize]
		t.hash -= blockSum(b, at)
		copy(at[off%blockSize:], p[:n])
		t.hash += blockSum(b, at)
		t.blocks[b] = append(t.blocks[b], change{t.seq + 1, blockSum(b, at), fmt.Sprintf("%d+%d zero=%t", off%blockSize, n, whole)})
		p, off = p[n:], off+n
		if !whole || len(p) == 0 {
			t.seq++
			t.states[t.hash] = append(t.states[t.hash], t.seq)
		}
	}
}

func (t *tracker) ack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.acked = t.seq
}

// bound is what find holds a state to.
type bound int

const (
	anyAcked   bound = iota // all that was acknowledged
	anyDurable              // all that was flushed
	anyStored               // all that the store was known to have
)

// find holds found to the states there have been, and returns which it is: the newest that looks like it, or, for a
// look at the store, the oldest that can be, since later looks will be held to it.
func (t *tracker) find(found []byte, b bound) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	least := t.stored // nor is the store ever ahead of the disk
	switch b {
	case anyAcked:
		least = max(least, t.acked)
	case anyDurable:
		least = max(least, t.durable)
	}
	when := t.states[t.sum(found)]
	if len(when) == 0 {
		return 0, fmt.Errorf("range at %d is in none of the %d states it was in: %s", t.off, t.seq, t.explain(found))
	}
	newest := when[len(when)-1]
	if newest < least {
		return 0, fmt.Errorf("range at %d is in state %d, must be in %d at least", t.off, newest, least)
	}
	if i, _ := slices.BinarySearch(when, least); b == anyStored {
		return when[i], nil
	}
	return newest, nil
}

// resume goes on from a state that was found: what came after never was.
func (t *tracker) resume(found []byte, seq int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	copy(t.data, found)
	t.hash = t.sum(found)
	for h, when := range t.states {
		i, _ := slices.BinarySearch(when, seq+1)
		if t.states[h] = when[:i]; i == 0 {
			delete(t.states, h)
		}
	}
	t.seq, t.acked, t.durable = seq, seq, seq
	for b, list := range t.blocks {
		for len(list) > 0 && list[len(list)-1].seq > seq {
			list = list[:len(list)-1]
		}
		t.blocks[b] = list
	}
}

// explain says of which change each block is, and what came next to it: in a state that never was, the block that is
// older than another's next change, or of none, is the one to look at.
func (t *tracker) explain(found []byte) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d acknowledged, %d durable, %d stored", t.acked, t.durable, t.stored)
	for b := range len(found) / blockSize {
		sum, list := blockSum(b, found[b*blockSize:(b+1)*blockSize]), t.blocks[b]
		i := len(list) - 1
		for i >= 0 && list[i].sum != sum {
			i--
		}
		switch {
		case i >= 0:
			fmt.Fprintf(&out, "; block %d is of %d", b, list[i].seq)
		case sum == blockSum(b, zeroes[:]):
			fmt.Fprintf(&out, "; block %d is zero", b)
		default:
			fmt.Fprintf(&out, "; block %d is of NO change", b)
		}
		if i+1 < len(list) {
			fmt.Fprintf(&out, ", next %d: %s", list[i+1].seq, list[i+1].what)
		}
	}
	return out.String()
}

// next makes an operation inside the range.
func (t *tracker) next(r *rand.Rand) (off, n int64) {
	off = r.Int64N(t.n)
	n = min(1+r.Int64N(1<<(6+r.IntN(11))), t.n-off)
	if r.IntN(4) > 0 {
		off, n = off&^(blockSize-1), (n+blockSize-1)&^(blockSize-1)
	}
	return t.off + off, n
}
