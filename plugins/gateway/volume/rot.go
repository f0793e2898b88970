package volume

import (
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// ErrRotten means that the disk gave back something else than was written, or nothing, for a block that exists
// nowhere else.
var ErrRotten = fmt.Errorf("block not uploaded yet is damaged on the disk: %w", log.ErrMediaCorrupt)

// readSingly reads a run, at pos of the log, that could not be read as a whole. It reports false when that fails for some blocks,
// which are looked after as damaged ones are.
func (v *Volume) readSingly(p []byte, block uint64, run []index.Entry, pos int64) (ok bool, err error) {
	ok = true
	for i, e := range run {
		off := int64(i) * blockSize
		err := v.log.Read(p[off:off+blockSize], pos+off)
		if errors.Is(err, log.ErrGone) {
			return false, nil
		}
		if err == nil {
			continue
		}
		ok = false
		if lost := v.discard(block+uint64(i), e); lost != nil {
			return false, fmt.Errorf("%w: %w", lost, err)
		}
	}
	return ok, nil
}

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

// discard drops a block that is damaged on the disk.
func (v *Volume) discard(block uint64, e index.Entry) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.index.Get(block).Same(e) {
		return nil // it was not damaged but old
	}
	if !v.isClean(e) {
		v.count.lost.Add(1)
		return fmt.Errorf("block %d at %d of the log: %w", block, v.pos(e), ErrRotten)
	}
	v.count.rotten.Add(1)
	v.o.Log.Warn("block on the disk is damaged, fetching it again", "volume", v.o.Name, "block", block)
	v.index.Set(block, 0)
	return nil
}

// isClean reports whether the store has the block as the entry means it (S2).
func (v *Volume) isClean(e index.Entry) bool { return e.IsClean() || v.pos(e) < v.up.at.Load() }
