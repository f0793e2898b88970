package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// flights are the fetches under way, at most one a cell.
type flights struct {
	mu    sync.Mutex
	cells map[uint64]*flight
	group sync.WaitGroup
}

// flight is one fetch. Its fields are set when done is closed and do not change.
type flight struct {
	done       chan struct{}
	data       []byte
	generation uint64
	err        error
}

// wait returns when no fetch is under way. The volume has failed before, so none starts any more
// once the lock has been free.
func (f *flights) wait() {
	f.mu.Lock()
	f.mu.Unlock() //nolint:staticcheck // an empty critical section is the point
	f.group.Wait()
}

// fetch returns a cell from the store, joining a fetch that is under way. ctx ends only this
// caller's waiting.
func (v *Volume) fetch(ctx context.Context, cell uint64) (*flight, error) {
	v.flights.mu.Lock()
	f := v.flights.cells[cell]
	if f == nil || f.landed() && v.remote.Generation(cell) != f.generation {
		if err := v.Err(); err != nil {
			v.flights.mu.Unlock()
			return nil, err
		}
		f = &flight{done: make(chan struct{})}
		v.flights.cells[cell] = f
		v.flights.group.Go(func() { v.fly(f, cell) })
	}
	v.flights.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return f, f.err
}

// landed reports whether the flight is over; it is still listed while its cell is being cached.
func (f *flight) landed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

func (v *Volume) fly(f *flight, cell uint64) {
	ctx, cancel := context.WithTimeout(v.ctx, v.o.ReadTimeout)
	defer cancel()
	f.data, _, f.generation, f.err = v.remote.Cell(ctx, cell)
	if errors.Is(f.err, context.DeadlineExceeded) {
		f.err = fmt.Errorf("store does not answer: %w", f.err)
	}
	close(f.done) // the client first, the cache after
	if f.err == nil {
		v.keepCell(f, cell)
	}
	v.flights.mu.Lock()
	if v.flights.cells[cell] == f {
		delete(v.flights.cells, cell)
	}
	v.flights.mu.Unlock()
}

// keepCell caches the blocks of a fetched cell that are still only in the store.
func (v *Volume) keepCell(f *flight, cell uint64) {
	var want [cellBlocks]entry
	for i := range want {
		if e := v.index.get(cell*cellBlocks + uint64(i)); e.place() == inStore {
			want[i] = e.base()
		}
	}
	done, err := v.cache.fill(v.index, cell, f.data, &want, f.generation, func() bool {
		return v.remote.Generation(cell) == f.generation
	})
	if err != nil {
		v.o.Log.Warn("cannot cache what was fetched", "volume", v.o.Name, "cell", cell, "error", err)
	}
	if !done || v.cache.low() {
		poke(v.tidy)
	}
}

// Prefetch brings a range into the cache; it is a hint.
func (v *Volume) Prefetch(ctx context.Context, off, n int64) error {
	if off < 0 || n < 0 || off > v.o.Size-n {
		return fmt.Errorf("prefetch %d+%d: %w", off, n, ErrRange)
	}
	for b := uint64(off) / blockSize; int64(b)*blockSize < off+n; b++ {
		if v.index.get(b).place() != inStore {
			continue
		}
		if _, err := v.fetch(ctx, b/cellBlocks); err != nil {
			return fmt.Errorf("prefetch block %d: %w", b, err)
		}
	}
	return nil
}
