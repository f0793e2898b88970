package table

import (
	"net/netip"
	"testing"
)

// TestLinesAreEven: consecutive ports of neighbouring clients, which is how clients behind one translator look, are
// spread over the lines as if they were random, with any key.
func TestLinesAreEven(t *testing.T) {
	const lines, each = 2048, 7
	local := netip.AddrPortFrom(vip4, 80)
	for range 100 {
		key := NewKey()
		var load [lines]float64
		for i := range lines * each {
			load[key.flow(client(i).src, local, 6)>>32%lines]++
		}
		var variance float64
		for _, n := range load {
			variance += (n - each) * (n - each) / lines
		}
		// Of random ones it is the mean, with a standard deviation of 1/32 of it.
		if variance > each*1.25 {
			t.Errorf("key %x: variance %.1f of lines with %d flows each", key[0], variance, each)
		}
	}
}
