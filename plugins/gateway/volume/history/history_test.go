package history

import (
	"bytes"
	"testing"
)

const size = 1 << 20

// after is a volume after n ops of a seed.
func after(seed uint64, n int) []byte {
	v, ops := make([]byte, size), NewOps(seed, size)
	for i := 1; i <= n; i++ {
		ops.Next().apply(v, i)
	}
	return v
}

func TestMatch(t *testing.T) {
	const seed = 5
	for _, c := range []struct {
		name  string
		found []byte
		acked int
		ok    bool
	}{
		{"nothing done", after(seed, 0), 0, true},
		{"exactly what was acknowledged", after(seed, 30), 30, true},
		{"more", after(seed, 37), 30, true},
		{"less", after(seed, 29), 30, false},
		{"another history", after(seed+1, 30), 30, false},
		{"too short", after(seed, 30)[:size-1], 30, false},
	} {
		if err := NewJudge(seed, make([]byte, size)).Match(c.found, c.acked); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	lost := after(seed, 40)
	copy(lost[3*block:4*block], bytes.Repeat([]byte{1}, block))
	if NewJudge(seed, make([]byte, size)).Match(lost, 30) == nil {
		t.Error("a damaged block was accepted")
	}
}

// TestMatchGoesOn asks one judge again and again, as a replay does.
func TestMatchGoesOn(t *testing.T) {
	j := NewJudge(9, make([]byte, size))
	for acked := 0; acked < 60; acked += 7 {
		if err := j.Match(after(9, acked+3), acked); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTorn(t *testing.T) {
	before := make([]byte, size)
	o := Op{Off: 2 * block, Len: 2 * block}
	whole := bytes.Clone(before)
	o.apply(whole, 1)
	half := bytes.Clone(whole)
	copy(half[2*block:3*block], before[2*block:])
	if !torn(half, whole, before[2*block:4*block], o) {
		t.Error("an op of which one block has arrived is allowed")
	}
	half[2*block] = 99
	if torn(half, whole, before[2*block:4*block], o) {
		t.Error("a block that is neither old nor new is not")
	}
}
