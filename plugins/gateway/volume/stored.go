package volume

import (
	"context"
	"time"
)

// storedNothing reports whether the store is known, without asking it, to hold nothing of a block that the index does
// not know. Blocks leave the index only after the store's manifest here has them. Until the manifest is here the last
// checkpoint answers.
func (v *Volume) storedNothing(block uint64) bool {
	if !v.remote.Loaded() {
		return v.blank.has(block / chunkBlocks)
	}
	return !v.remote.MayHold(block / chunkBlocks)
}

// statePatience is how long a question for the state of a range waits for the store.
const statePatience = time.Second

// remoteState is the state of a block, and of those behind it up to span, that the index does not know. What the
// store does not tell in time may be there: a client that takes zeroes for data is right, too.
func (v *Volume) remoteState(ctx context.Context, block, span uint64) (State, uint64) {
	if v.storedNothing(block) {
		return Zero, min(span, chunkBlocks-block%chunkBlocks)
	}
	in := block % cellBlocks
	mask, err := v.remote.Mask(ctx, block/cellBlocks)
	if err != nil {
		return Remote, min(span, chunkBlocks-block%chunkBlocks)
	}
	stored := mask >> in & 1
	n := uint64(1)
	for in+n < cellBlocks && n < span && mask>>(in+n)&1 == stored {
		n++
	}
	if stored == 0 {
		return Zero, n
	}
	return Remote, n
}
