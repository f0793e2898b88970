package volume

import "github.com/ratchetos/ratchet/plugins/gateway/remote"

var _ = remote.ErrFenced

// storedNothing reports whether the store is known, without asking it, to hold nothing of a block that the index does
// not know. Blocks leave the index only after the store's manifest here has them.
func (v *Volume) storedNothing(block uint64) bool {
	return v.remote.Loaded() && v.remote.Mask(block/cellBlocks)&(1<<(block%cellBlocks)) == 0
}

// remoteState is the state of a block, and of those behind it up to span, that the index does not know.
func (v *Volume) remoteState(block, span uint64) (State, uint64) {
	if !v.remote.Loaded() {
		return Remote, span // or zero: a client that takes it for data is right, too
	}
	mask := v.remote.Mask(block / cellBlocks)
	in := block % cellBlocks
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
