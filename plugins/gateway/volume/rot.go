package volume

import (
	"fmt"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// ErrRotten means that the disk gave back something else than was written, for a block that exists
// nowhere else.
var ErrRotten = fmt.Errorf("block not uploaded yet does not match its checksum: %w", log.ErrMediaCorrupt)

// damaged looks after the blocks of a run whose bytes in p do not match: what the store has, too, is dropped and
// will be fetched again; what it does not is an error.
func (v *Volume) damaged(block uint64, run []index.Entry, p []byte) error {
	for i, e := range run {
		if e.Matches(log.Checksum(p[i*blockSize : (i+1)*blockSize])) {
			continue
		}
		if err := v.discard(block+uint64(i), e); err != nil {
			return err
		}
	}
	return nil
}

// discard drops a rotten block.
func (v *Volume) discard(block uint64, e index.Entry) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.index.Get(block).Same(e) {
		return nil // it was not rotten but old
	}
	if !v.isClean(e) {
		v.count.lost.Add(1)
		return fmt.Errorf("block %d at %d of the log: %w", block, v.pos(e), ErrRotten)
	}
	v.count.rotten.Add(1)
	v.o.Log.Warn("block on the disk does not match its checksum, fetching it again", "volume", v.o.Name, "block", block)
	v.index.Set(block, 0)
	return nil
}

// isClean reports whether the store has the block as the entry means it (S2).
func (v *Volume) isClean(e index.Entry) bool { return e.IsClean() || v.pos(e) < v.up.at.Load() }
