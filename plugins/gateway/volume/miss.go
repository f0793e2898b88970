package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// flights are the fetches under way, at most one a cell.
type flights struct {
	mu    sync.Mutex
	cells map[uint64]*flight
	ahead int // how many of them nobody has asked for
	group sync.WaitGroup
}

// flight is one fetch. Its results are set when done is closed and do not change.
type flight struct {
	cell       uint64
	done       chan struct{}
	data       []byte
	mask       uint16 // blocks that the store holds; the others are zero
	generation uint64
	empty      bool // data was not needed and is zeroes: only blocks outside mask are what they seem
	err        error

	// under flights.mu
	ahead  bool // nobody has asked for it
	queued bool // it stands in the queue of the read-ahead
}

// Bytes implements pipeline.Sized.
func (f *flight) Bytes() int64 { return cellSize }

// wait returns when no fetch is under way. The volume has failed before, so none starts any more
// once the lock has been free.
func (f *flights) wait() {
	f.mu.Lock()
	f.mu.Unlock() //nolint:staticcheck // an empty critical section is the point
	f.group.Wait()
}

// landed reports whether the flight is over; it is still listed while its cell is being kept.
func (f *flight) landed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// begin fetches a cell unless that is under way. It returns nil once the volume has failed, and when what is only
// fetched ahead has to stand back.
func (v *Volume) begin(cell uint64, ahead bool) *flight {
	v.flights.mu.Lock()
	defer v.flights.mu.Unlock()
	f := v.flights.cells[cell]
	switch {
	case f != nil && (!f.landed() || !f.empty && v.remote.Generation(cell) == f.generation):
		if f.ahead && !ahead {
			f.ahead = false
			v.flights.ahead--
			v.ahead.used(1)
			if f.queued { // it does not wait for its turn any more
				v.start(f)
			}
		}
		return f
	case v.Err() != nil:
		return nil
	}
	f = &flight{cell: cell, done: make(chan struct{}), ahead: ahead, queued: ahead}
	switch {
	case !ahead:
		v.start(f)
	case v.fetches.Offer(f):
		v.flights.ahead++
	default:
		return nil
	}
	v.flights.cells[cell] = f
	return f
}

// start takes off, on a goroutine of its own. The caller holds flights.mu.
func (v *Volume) start(f *flight) {
	f.queued = false
	v.flights.group.Go(func() {
		v.fly(f)
		v.keepCell(f)
		v.land(f)
	})
}

// fetch returns a cell from the store, joining a fetch that is under way. ctx ends only this
// caller's waiting.
func (v *Volume) fetch(ctx context.Context, cell uint64) (*flight, error) {
	f := v.begin(cell, false)
	if f == nil {
		return nil, v.Err()
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return f, f.err
}

// fly fetches. The client has its data before the log has.
func (v *Volume) fly(f *flight) {
	ctx, end := untilSilent(v.ctx, v.o.ReadTimeout, v.remote.Answered)
	defer end()
	v.load(ctx, f)
	if f.err != nil && errors.Is(context.Cause(ctx), errSilent) {
		f.err = fmt.Errorf("%w: %w", errSilent, f.err)
	}
	close(f.done)
}

// land forgets a flight.
func (v *Volume) land(f *flight) {
	v.flights.mu.Lock()
	defer v.flights.mu.Unlock()
	if f.ahead {
		v.flights.ahead--
	}
	if v.flights.cells[f.cell] == f {
		delete(v.flights.cells, f.cell)
	}
}

// load gets a cell's data, unless nothing of what the store has of it is missing here.
func (v *Volume) load(ctx context.Context, f *flight) {
	cell := f.cell
	f.generation = v.remote.Generation(cell)
	if f.mask, f.err = v.remote.Mask(ctx, cell); f.err != nil {
		return
	}
	if f.mask&v.missing(cell) == 0 {
		f.data, f.empty = zeroCell[:], true
		return
	}
	f.data, f.mask, f.generation, f.err = v.remote.Cell(ctx, cell)
}

var zeroCell [cellSize]byte

// missing returns the blocks of a cell that are not here as a whole.
func (v *Volume) missing(cell uint64) (mask uint16) {
	for i := range uint64(cellBlocks) {
		if b := cell*cellBlocks + i; b < v.index.Blocks() {
			if e := v.index.Get(b); e == 0 || e.IsPatched() {
				mask |= 1 << i
			}
		}
	}
	return mask
}

// keepCell keeps what was fetched in the log, and merges the blocks with patches.
func (v *Volume) keepCell(f *flight) {
	if f.err != nil {
		return
	}
	cell := f.cell
	s := v.scrap.Get().(*scratch)
	defer v.scrap.Put(s)
	if err := v.fill(f, cell, s); err != nil {
		v.count.unkept.Add(1)
		return
	}
	for i := range uint64(cellBlocks) {
		if v.index.Get(cell*cellBlocks + i).IsPatched() {
			if err := v.merge(f, cell*cellBlocks+i, s); err != nil {
				return // the upload will merge it
			}
		}
	}
}

// fillPatience is how long a fetched cell waits for the log's writer before it is let go.
const fillPatience = time.Second

// fill appends the blocks of a fetched cell that are still only in the store.
func (v *Volume) fill(f *flight, cell uint64, s *scratch) error {
	ctx, cancel := context.WithTimeout(v.ctx, fillPatience)
	defer cancel()
	sums := s.sums.of(f.data)
	for {
		err := v.tryFill(f, cell, sums)
		if !errors.Is(err, log.ErrWindowFull) {
			return err
		}
		if err := v.waitRoom(ctx, cellSize, false); err != nil {
			return err
		}
	}
}

func (v *Volume) tryFill(f *flight, cell uint64, sums []uint32) error {
	v.flights.mu.Lock()
	entry := index.Clean
	if f.ahead {
		entry = index.Ahead
	}
	v.flights.mu.Unlock()
	if !f.empty && f.mask != 0 && v.log.Free() < v.clean.least {
		return log.ErrLogFull // what clients write needs the room
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	// The copy is true at this point of the log only if no head has changed the cell since, and no
	// write is newer: a replay takes the record as it is.
	if v.remote.Generation(cell) != f.generation && v.o.mutant != mutantStaleFill {
		return errChanged
	}
	missing := func(i uint64) bool {
		if f.empty || f.mask&(1<<i) == 0 {
			return false
		}
		e := v.index.Get(cell*cellBlocks + i)
		return e == 0 || v.o.mutant == mutantStaleFill || e.IsPatched() && v.o.mutant == mutantPatchLost
	}
	for i := uint64(0); i < cellBlocks; i++ {
		j := i
		for j < cellBlocks && missing(j) {
			j++
		}
		if j == i {
			continue
		}
		r := record(log.Fill, f.data[i*blockSize:j*blockSize], int64(cell*cellBlocks+i)*blockSize, sums[i:j])
		if _, err := v.appendLocked(&r, entry); err != nil {
			return err
		}
		i = j
	}
	return v.noteNothing(cell, f.mask)
}

// maxNoted bounds the cells of which the index remembers that the store has nothing, or not all, of them.
const maxNoted = 16 << 10

// noteNothing remembers which blocks of a cell the store does not have, so that it is asked once. It needs mu.
func (v *Volume) noteNothing(cell uint64, mask uint16) error {
	first := cell * cellBlocks
	n := min(cellBlocks, v.index.Blocks()-first)
	if mask == 1<<cellBlocks-1 {
		return nil
	}
	if err := v.index.Prepare(first, n); err != nil {
		return err
	}
	if e, span := v.index.Lookup(first); e == 0 && span >= cellBlocks && mask == 0 {
		v.index.Fill(first, n, index.Nothing)
	}
	for i := range n {
		if mask&(1<<i) == 0 && v.index.Get(first+i) == 0 {
			v.index.Set(first+i, index.Nothing)
		}
	}
	if v.noted++; v.noted > maxNoted {
		poke(v.tidy)
	}
	return nil
}

// Prefetch brings a range into the log; it is a hint, which returns when the range is local or
// fetching it has failed.
func (v *Volume) Prefetch(ctx context.Context, off, n int64) error {
	if off < 0 || n < 0 || off > v.Size()-n {
		return fmt.Errorf("prefetch %d+%d: %w", off, n, ErrRange)
	}
	if n == 0 {
		return nil
	}
	first, last := uint64(off)/blockSize, uint64(off+n-1)/blockSize
	// A few cells at a time, so that a long range does not fill the memory.
	const together = 16
	for cell := first / cellBlocks; cell <= last/cellBlocks; cell += together {
		for c := cell; c < min(cell+together, last/cellBlocks+1); c++ {
			if v.wanted(c, max(first, c*cellBlocks), min(last, c*cellBlocks+cellBlocks-1)) {
				v.begin(c, false)
			}
		}
		for c := cell; c < min(cell+together, last/cellBlocks+1); c++ {
			if !v.wanted(c, max(first, c*cellBlocks), min(last, c*cellBlocks+cellBlocks-1)) {
				continue
			}
			if _, err := v.fetch(ctx, c); err != nil {
				return fmt.Errorf("prefetch cell %d: %w", c, err)
			}
		}
	}
	return nil
}
