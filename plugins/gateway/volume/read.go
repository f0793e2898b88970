package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

const (
	// maxRun is the most blocks that are read at once.
	maxRun = 256
	// maxLooks bounds how often one run of blocks is looked up again because it changed while it
	// was read. Every look finds newer data, so more than a few in a row mean a bug.
	maxLooks = 100
)

// scratch is what one request works with.
type scratch struct {
	sums sums
	run  [maxRun]index.Entry
	page []byte
}

// block is memory for one block.
func (s *scratch) block() []byte {
	if s.page == nil {
		s.page = log.AlignedBuffer(blockSize)
	}
	return s.page
}

// TryReadAt fills p if that needs neither the disk nor the store, and reports whether it did.
func (v *Volume) TryReadAt(p []byte, off int64) bool {
	if off < 0 || off > v.Size()-int64(len(p)) || v.failure.Load() != nil {
		return false
	}
	s := v.scrap.Get().(*scratch)
	ok := v.tryRead(s, p, off)
	v.scrap.Put(s)
	if ok {
		v.count.hits.Add(1)
	}
	return ok
}

func (v *Volume) tryRead(s *scratch, p []byte, off int64) bool {
	for len(p) > 0 {
		block, in := uint64(off)/blockSize, off%blockSize
		e, span := v.index.Lookup(block)
		n := int64(0)
		switch {
		case e.IsData() && in == 0 && len(p) >= blockSize:
			run := v.run(s, block, e, len(p)/blockSize)
			n = int64(len(run)) * blockSize
			if !v.tryData(p[:n], block, run) {
				return false
			}
		case e.IsData():
			s.run[0] = e
			if !v.tryData(s.block(), block, s.run[:1]) {
				return false
			}
			n = int64(copy(p, s.page[in:]))
		case e.IsZero(), e == 0 && v.storedNothing(block):
			if !e.IsZero() {
				span = 1 // the store answers for one block
			}
			n = min(int64(span)*blockSize-in, int64(len(p)))
			clear(p[:n])
		default:
			return false
		}
		p, off = p[n:], off+n
	}
	return true
}

// run collects the entries of the blocks from block on, at most limit, that lie one behind the other.
func (v *Volume) run(s *scratch, block uint64, first index.Entry, limit int) []index.Entry {
	s.run[0] = first
	n := 1
	for limit = min(limit, maxRun); n < limit; n++ {
		e := v.index.Get(block + uint64(n))
		if !e.IsData() || e.Place() != first.Place()+uint32(n) {
			break
		}
		s.run[n] = e
	}
	return s.run[:v.oneSource(v.pos(first), n)]
}

// oneSource cuts a run of n blocks from pos where the window begins: one read takes all from the window or all from the
// disk, and what is young may not have reached the disk yet.
func (v *Volume) oneSource(pos int64, n int) int {
	if young := v.log.YoungFrom(); pos < young {
		return min(n, int((young-pos+blockSize-1)/blockSize))
	}
	return n
}

// tryData fills p with the blocks of a run from window or page cache.
func (v *Volume) tryData(p []byte, block uint64, run []index.Entry) bool {
	pos := v.pos(run[0])
	return v.log.TryRead(p, pos) && (v.log.Young(pos) || v.matches(p, run) < 0) && v.unchanged(block, run)
}

// matches returns the first block of p that is not what the run says, or -1.
func (v *Volume) matches(p []byte, run []index.Entry) int {
	for i, e := range run {
		if !e.Matches(log.Checksum(p[i*blockSize : (i+1)*blockSize])) {
			return i
		}
	}
	return -1
}

// unchanged reports whether the entries stand as they were looked up, so that what was read is
// theirs, and notes that they were read.
func (v *Volume) unchanged(block uint64, run []index.Entry) bool {
	for i, e := range run {
		now := v.index.Get(block + uint64(i))
		if !now.Same(e) {
			return false
		}
		if !now.IsHot() {
			v.touch(block+uint64(i), now)
		}
	}
	return true
}

func (v *Volume) touch(block uint64, e index.Entry) {
	v.index.Touch(block, e)
	if e.IsAhead() {
		v.used(block)
	}
}

// ReadAt fills p from off. What is not local is fetched.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off > v.Size()-int64(len(p)) {
		return fmt.Errorf("read %d+%d: %w", off, len(p), ErrRange)
	}
	missed, err := v.read(ctx, p, off)
	if err != nil {
		return fmt.Errorf("read %d+%d: %w", off, len(p), err)
	}
	if missed {
		v.count.misses.Add(1)
	} else {
		v.count.hits.Add(1)
	}
	return nil
}

func (v *Volume) read(ctx context.Context, p []byte, off int64) (missed bool, err error) {
	if err := v.Err(); err != nil {
		return false, err
	}
	s := v.scrap.Get().(*scratch)
	defer v.scrap.Put(s)
	v.fetchLocal(s, p, off)
	started := false
	for looks := 0; len(p) > 0; {
		block, in := uint64(off)/blockSize, off%blockSize
		e, span := v.index.Lookup(block)
		n, ok := int64(0), true
		switch {
		case e.IsData() && in == 0 && len(p) >= blockSize:
			run := v.run(s, block, e, len(p)/blockSize)
			n = int64(len(run)) * blockSize
			ok, err = v.readData(p[:n], block, run)
		case e.IsData():
			s.run[0] = e
			ok, err = v.readData(s.block(), block, s.run[:1])
			n = int64(copy(p, s.page[in:]))
		case e.IsZero():
			n = min(int64(span)*blockSize-in, int64(len(p)))
			clear(p[:n])
		case e == 0 && v.storedNothing(block):
			n = min(blockSize-in, int64(len(p)))
			clear(p[:n])
		default:
			missed = true
			if !started {
				started = true
				v.fetchAll(block, p, in)
			}
			n = min(blockSize-in, int64(len(p)))
			if e.IsPatched() {
				ok, err = v.readPatched(ctx, s.block(), block)
				copy(p[:n], s.page[in:])
			} else {
				n, ok, err = v.readStore(ctx, p, block, in)
			}
		}
		if err != nil {
			return missed, err
		}
		if !ok {
			if looks++; looks > maxLooks {
				return missed, fmt.Errorf("block %d changed %d times while it was read", block, looks)
			}
			v.await()
			continue
		}
		p, off = p[n:], off+n
	}
	return missed, nil
}

// fetchLocal has the disk work at all that a read needs of it at once, where that lies scattered over the log.
func (v *Volume) fetchLocal(s *scratch, p []byte, off int64) {
	block, end := uint64(off)/blockSize, uint64(off+int64(len(p))-1)/blockSize
	for first := true; block <= end; {
		e := v.index.Get(block)
		if !e.IsData() {
			block++
			continue
		}
		run := v.run(s, block, e, int(end-block)+1)
		if first && block+uint64(len(run)) > end {
			return // the read itself is the best way
		}
		first = false
		v.log.Fetch(v.pos(e), int64(len(run))*blockSize)
		block += uint64(len(run))
	}
}

// await returns when a change that was under way has been made. A block whose patches are being replaced looks for a moment
// as if it had none: a reader that kept looking could use up its looks while the writer waits for a CPU.
func (v *Volume) await() {
	v.mu.Lock()
	v.mu.Unlock() //nolint:staticcheck // an empty critical section is the point
}

// readData fills p with the blocks of a run. It reports false when the index knows something newer.
func (v *Volume) readData(p []byte, block uint64, run []index.Entry) (bool, error) {
	pos := v.pos(run[0])
	switch err := v.log.Read(p, pos); {
	case errors.Is(err, log.ErrGone):
		return false, nil
	case err != nil:
		if ok, err := v.readSingly(p, block, run, pos); !ok {
			return false, err
		}
	}
	if v.log.Young(pos) || v.matches(p, run) < 0 {
		return v.unchanged(block, run), nil
	}
	return false, v.damaged(block, run, p)
}

// readStore copies blocks of one cell, beginning in bytes into the first, from a fetch.
func (v *Volume) readStore(ctx context.Context, p []byte, block uint64, in int64) (n int64, ok bool, err error) {
	cell, first := block/cellBlocks, int64(block%cellBlocks)
	f, err := v.fetch(ctx, cell)
	if err != nil {
		return 0, false, err
	}
	n = min(cellSize-first*blockSize-in, int64(len(p)))
	last := block + uint64(in+n-1)/blockSize
	// A block counts if it is not here still, or here as the copy that was just fetched.
	for b := block; b <= last; b++ {
		e := v.index.Get(b)
		if e != 0 && !e.IsClean() || f.empty && f.mask&(1<<(b%cellBlocks)) != 0 {
			if n = int64(b-block)*blockSize - in; n <= 0 {
				return 0, false, nil
			}
			break
		}
	}
	copy(p[:n], f.data[first*blockSize+in:])
	return n, v.remote.Generation(cell) == f.generation, nil
}

// fetchAll begins to fetch all that a read of p misses from block on, so that a long one waits once.
func (v *Volume) fetchAll(block uint64, p []byte, in int64) {
	last := block + uint64(in+int64(len(p))-1)/blockSize
	for cell := block / cellBlocks; cell <= last/cellBlocks; cell++ {
		if v.wanted(cell, max(block, cell*cellBlocks), min(last, cell*cellBlocks+cellBlocks-1)) {
			v.begin(cell, false)
		}
	}
	v.readAhead(block/cellBlocks, last/cellBlocks)
}

// wanted reports whether some block from first to last, all of one cell, is only in the store.
func (v *Volume) wanted(cell, first, last uint64) bool {
	for b := first; b <= last; b++ {
		if e := v.index.Get(b); e.IsPatched() || e == 0 && !v.storedNothing(b) {
			return true
		}
	}
	return false
}
