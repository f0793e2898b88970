package maglev

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func member(i int, weight uint32) Member {
	return Member{Key: Key([]byte{10, 0, byte(i >> 8), byte(i)}), Weight: weight, Value: uint16(i + 1)}
}

func fill(t testing.TB, size int, members []Member) []uint16 {
	t.Helper()
	ring := make([]uint16, size)
	if _, err := Fill(ring, members); err != nil {
		t.Fatal(err)
	}
	return ring
}

// imbalance is the largest of places held over places deserved.
func imbalance(ring []uint16, members []Member) float64 {
	var sum float64
	held := map[uint16]int{}
	for _, v := range ring {
		held[v]++
	}
	for _, m := range members {
		sum += float64(m.Weight)
	}
	worst := 0.0
	for _, m := range members {
		worst = max(worst, float64(held[m.Value])/(float64(m.Weight)/sum*float64(len(ring))))
	}
	return worst
}

func TestSharesFollowWeights(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int
		n      int
		weight func(i int) uint32
		most   float64
	}{
		{"equal", 65537, 100, func(int) uint32 { return 1 }, 1.002},
		{"unequal by 100", 65537, 100, func(i int) uint32 { return uint32(i + 1) }, 1.05},
		{"unequal, power of two", 65536, 100, func(i int) uint32 { return uint32(i + 1) }, 1.05},
		{"small ring", 4099, 16, func(i int) uint32 { return uint32(i%4 + 1) }, 1.02},
		{"large weights", 65537, 3, func(i int) uint32 { return math.MaxUint32 - uint32(i) }, 1.001},
		{"one", 251, 1, func(int) uint32 { return 7 }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var members []Member
			for i := range c.n {
				members = append(members, member(i, c.weight(i)))
			}
			if got := imbalance(fill(t, c.size, members), members); got > c.most {
				t.Errorf("imbalance %.4f, want at most %.4f", got, c.most)
			}
		})
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	var members []Member
	for i := range 50 {
		members = append(members, member(i, uint32(i%3+1)))
	}
	want := fill(t, 4099, members)
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	if !slices.Equal(want, fill(t, 4099, members)) {
		t.Error("the ring depends on the order of its members")
	}
}

// A lost backend's places go to the others; of theirs only few may change hands.
func TestLossDisturbsFew(t *testing.T) {
	var members []Member
	for i := range 100 {
		members = append(members, member(i, 10))
	}
	before := fill(t, 65537, members)
	gone := members[37].Value
	after := fill(t, 65537, slices.Delete(slices.Clone(members), 37, 38))
	innocent := 0
	for i := range before {
		if after[i] == gone {
			t.Fatal("a removed member holds a place")
		}
		if before[i] != gone && before[i] != after[i] {
			innocent++
		}
	}
	if share := float64(innocent) / float64(len(before)); share > 0.02 {
		t.Errorf("%.3f of the places moved between members that stayed, want at most 0.02", share)
	}
}

func TestWeightZeroHoldsNothing(t *testing.T) {
	ring := fill(t, 251, []Member{member(0, 1), member(1, 0)})
	if slices.Contains(ring, 2) {
		t.Error("a member of weight 0 holds a place")
	}
	n, err := Fill(ring, []Member{member(1, 0)})
	if n != 0 || err != nil {
		t.Errorf("no member with weight: %d, %v", n, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		size    int
		members []Member
	}{
		{0, []Member{member(0, 1)}},
		{12, []Member{member(0, 1)}},
		{15, []Member{member(0, 1)}},
		{MaxSize * 2, []Member{member(0, 1)}},
		{2, []Member{member(0, 1), member(1, 1), member(2, 1)}},
		{251, []Member{{Key: 1, Weight: 1}, {Key: 1, Weight: 1}}},
	} {
		if _, err := Fill(make([]uint16, c.size), c.members); err == nil {
			t.Errorf("a ring of %d for %d members was filled", c.size, len(c.members))
		}
	}
}

// FuzzFill checks for any members that every place is taken and every weighted member holds about its share.
func FuzzFill(f *testing.F) {
	f.Add(uint8(3), []byte{1, 0, 200, 0, 0, 1})
	f.Add(uint8(0), []byte{255, 255, 1, 0, 1, 0, 1, 0})
	f.Fuzz(func(t *testing.T, which uint8, weights []byte) {
		sizes := []int{251, 1021, 4099, 4096}
		ring := make([]uint16, sizes[int(which)%len(sizes)])
		var members []Member
		var sum float64
		for i := 0; i+1 < len(weights) && len(members) < 200; i += 2 {
			m := member(i, uint32(binary.LittleEndian.Uint16(weights[i:])))
			members = append(members, m)
			sum += float64(m.Weight)
		}
		n, err := Fill(ring, members)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		held := map[uint16]int{}
		for _, v := range ring {
			if v == 0 {
				t.Fatal("a place was left empty")
			}
			held[v]++
		}
		for _, m := range members {
			// A round deals to every member before the last: at most one place of rounding each way, and a
			// place for each member of the unfinished round.
			want := float64(m.Weight) / sum * float64(len(ring))
			if got := float64(held[m.Value]); math.Abs(got-want) > 2+want*float64(n)/float64(len(ring)) {
				t.Errorf("member %d of %d holds %v places, deserves %.2f", m.Value, n, got, want)
			}
		}
	})
}

func BenchmarkFill(b *testing.B) {
	for _, n := range []int{10, 100} {
		for _, size := range []int{1021, 4099, 65537} {
			b.Run(fmt.Sprintf("%d of %d", n, size), func(b *testing.B) {
				var members []Member
				for i := range n {
					members = append(members, member(i, uint32(i+1)))
				}
				ring := make([]uint16, size)
				for b.Loop() {
					if _, err := Fill(ring, members); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
