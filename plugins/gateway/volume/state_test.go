package volume

import (
	"bytes"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

const stateSlots = 8

func emptyParts() (*index, *cache) {
	return newIndex(testSize), newCache(simdisk.New(0), log.Area{Len: stateSlots * cellSize})
}

// sampleState has blocks in every place and a slot of which some blocks have been overwritten.
func sampleState() []byte {
	x, c := emptyParts()
	x.set(3, entryOf(inStore, 0))
	x.set(700, logEntry(8192))
	for i := range uint64(cellBlocks) {
		x.set(5*cellBlocks+i, slotEntry(2))
	}
	x.set(5*cellBlocks+7, logEntry(4096))
	s := &slot{cell: 5, generation: 9, blocks: 0xffff}
	s.sums[0] = 42
	c.slots[2].Store(s)
	return encodeState(known{epoch: 4, confirmed: 99}, x, c)
}

func TestState(t *testing.T) {
	p := sampleState()
	x, c := emptyParts()
	k, err := decodeState(p, x, c)
	if err != nil || k != (known{epoch: 4, confirmed: 99}) {
		t.Fatalf("%+v, %v", k, err)
	}
	for block, want := range map[uint64]entry{
		3: entryOf(inStore, 0), 4: 0,
		700: 0, 5*cellBlocks + 7: 0, // replay knows better
		5 * cellBlocks: slotEntry(2), 5*cellBlocks + 15: slotEntry(2),
	} {
		if got := x.get(block); got != want {
			t.Errorf("block %d: %#x, want %#x", block, got, want)
		}
	}
	if s := c.slots[2].Load(); s == nil || s.cell != 5 || s.generation != 9 || s.sums[0] != 42 || s.blocks != 0xffff&^(1<<7) {
		t.Errorf("slot: %+v", s)
	}
	if !bytes.Equal(encodeState(k, x, c), p) {
		t.Error("the state of what was decoded differs")
	}
	if int64(len(p)) > maxState(testSize, stateSlots) {
		t.Errorf("%d bytes of state, at most %d expected", len(p), maxState(testSize, stateSlots))
	}
}

func FuzzState(f *testing.F) {
	f.Add(sampleState())
	f.Fuzz(func(t *testing.T, p []byte) {
		x, c := emptyParts()
		if k, err := decodeState(p, x, c); err == nil {
			c.restore()
			if int64(len(encodeState(k, x, c))) > maxState(testSize, stateSlots) {
				t.Fatal("decoded state does not fit its area")
			}
		}
	})
}
