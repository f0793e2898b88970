package remote

import (
	"bytes"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

func TestLeafCache(t *testing.T) {
	c := leafCache{limit: 300}
	ref := func(n uint32) *manifest.LeafRef { return &manifest.LeafRef{Object: n} }
	leaf := func(n byte) []byte { return bytes.Repeat([]byte{n}, 100) }
	for n := range uint32(4) {
		c.put(ref(n), leaf(byte(n)))
	}
	c.replace(ref(0), ref(10), leaf(10)) // which had to go
	c.replace(ref(1), ref(11), leaf(11))
	c.replace(ref(3), ref(13), leaf(13)[:50])
	for n, want := range map[uint32]int{0: 0, 1: 0, 2: 100, 3: 0, 10: 0, 11: 100, 13: 50} {
		if got := c.get(ref(n)); len(got) != want || want > 0 && got[0] != byte(n) {
			t.Errorf("leaf %d: %v", n, got)
		}
	}
	if c.size != 250 || c.order.Len() != 3 || len(c.index) != 3 {
		t.Errorf("%d bytes, %d leaves, %d listed", c.size, c.order.Len(), len(c.index))
	}
}
