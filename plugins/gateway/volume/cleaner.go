package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// The log's space is freed at its tail, in strides. Everything of a stride is in the store already; blocks that have been
// read since they were appended get a second chance at the head, the others leave the index.
const (
	strideShare = 32 // of the log: what is freed at once
	lowStrides  = 2  // freeing begins when less is free
	// keepShare bounds the second chances: of what a stride held at most one in so many is appended again.
	keepShare = 2
	// maxLook is the most that is appended between two looks of the cleaner: a quarter of what a replay may have to read, so that a
	// checkpoint is not much later than it is due.
	maxLook = 64 << 20
	// sweepBudget is the number of index words looked at under one hold of the lock.
	sweepBudget = 4 * index.BlocksPerChunk
)

// cleaner is the state of keep.
type cleaner struct {
	waiting atomic.Int64 // writers that wait for room
	stride  int64        // in bytes
	look    int64        // after so many bytes there may be something to do
	least   int64        // free space below which nothing fetched is kept
	dump    int64        // size of the last checkpoint's state
	redo    atomic.Bool  // a checkpoint is wanted now

	request sync.Mutex // one Evict at a time
}

func (c *cleaner) init(size int64) {
	c.stride = max(size/strideShare, blockSize)
	c.look = min(c.stride, maxLook)
	c.least = c.stride / 2
}

// plan decides how many bytes to free, from how many are free, by how many writers wait.
func (c *cleaner) plan(free int64) int64 {
	if low := lowStrides * c.stride; free < low {
		return low - free + c.stride
	}
	return 0
}

// keep runs until the volume closes.
func (v *Volume) keep() {
	for {
		select {
		case <-v.tidy:
		case <-v.ctx.Done():
			return
		}
		if err := v.tidyUp(); err != nil {
			if v.ctx.Err() == nil {
				v.fail(err)
			}
			return
		}
	}
}

func (v *Volume) tidyUp() error {
	v.clean.request.Lock()
	defer v.clean.request.Unlock()
	if v.log.CheckpointDue(v.clean.dump) || v.clean.redo.Swap(false) {
		if err := v.checkpointLater(); err != nil {
			return err
		}
	}
	if err := v.forget(); err != nil {
		return err
	}
	if n := v.clean.plan(v.log.Free()); n > 0 {
		freed, err := v.free(n, true)
		if err != nil {
			return err
		}
		// Whoever waits now can be helped only by a batch.
		if freed == 0 && v.clean.waiting.Load() > 0 {
			v.up.want(v.dirty.Load())
			poke(v.cut)
		}
	}
	return nil
}

// checkpointLater makes a checkpoint. Its area is sized for the blocks that the log holds; many short runs of zeroes may not fit
// besides, and then those that the store has are forgotten. One that does not fit even so leaves the older one to be replayed
// from, until more has been uploaded.
func (v *Volume) checkpointLater() error {
	err := v.checkpoint()
	if errors.Is(err, log.ErrTooLarge) {
		if err := v.forgetZeroes(v.confirmedPos()); err != nil {
			return err
		}
		err = v.checkpoint()
	}
	if errors.Is(err, log.ErrTooLarge) {
		v.o.Log.Warn("checkpoint does not fit; a start will take longer", "volume", v.o.Name, "error", err)
		return nil
	}
	return err
}

// confirmedPos is how far the log may be freed: to what a confirmed head covers (S2).
func (v *Volume) confirmedPos() int64 {
	if v.o.mutant == mutantEvictEarly {
		return v.log.Durable().Pos
	}
	return v.up.at.Load()
}

// free moves the tail by about n bytes and returns by how many it did. With second set, what has been read
// is kept.
func (v *Volume) free(n int64, second bool) (int64, error) {
	tail := v.log.Tail()
	limit := min(v.confirmedPos(), v.log.Durable().Pos)
	next := v.up.tail(tail.Pos+min(n, limit-tail.Pos), limit) // n may be all there is, and more
	if v.o.mutant == mutantEvictEarly {
		next = v.log.Durable()
	}
	if next.Pos <= tail.Pos {
		return 0, nil
	}
	kept, err := v.sweep(next.Pos, second)
	if err != nil {
		return 0, err
	}
	err = v.setMark(&next, nil)
	if err != nil {
		// The tail may not pass the place from which a start replays: move that first.
		if err := v.checkpointLater(); err != nil {
			return 0, err
		}
		if err := v.setMark(&next, nil); err != nil {
			v.o.Log.Debug("tail stays", "volume", v.o.Name, "error", err)
			return 0, nil
		}
	}
	if err := v.log.Flush(v.ctx); err != nil {
		return 0, v.explain(err)
	}
	v.up.passed(next)
	v.count.freed.Add(uint64(next.Pos - tail.Pos))
	return next.Pos - tail.Pos - kept, nil
}

// forget drops what the index remembers of the store's manifest, when that is much.
func (v *Volume) forget() error {
	v.mu.Lock()
	much := v.noted > maxNoted
	if much {
		v.noted = 0
	}
	v.mu.Unlock()
	if !much {
		return nil
	}
	return v.eachEntry(func(_, _ uint64, e index.Entry) index.Entry {
		if e == index.Nothing {
			return 0
		}
		return e
	})
}

// forgetZeroes drops what the index knows to be zeroes because of records before pos, which a confirmed head covers: the
// store's manifest says the same.
func (v *Volume) forgetZeroes(pos int64) error {
	return v.eachEntry(func(_, _ uint64, e index.Entry) index.Entry {
		if e.IsZero() && e.Placed() && v.pos(e) < pos {
			return 0
		}
		return e
	})
}

// eachEntry sweeps the index, a little at a time under the lock.
func (v *Volume) eachEntry(visit func(block, n uint64, e index.Entry) index.Entry) error {
	for c, more := uint64(0), true; more; {
		v.mu.Lock()
		c, more = v.index.Sweep(c, sweepBudget, visit)
		v.mu.Unlock()
		if v.ctx.Err() != nil {
			return v.ctx.Err()
		}
	}
	return nil
}

// kept is a block that gets a second chance.
type kept struct {
	block uint64
	entry index.Entry
}

// sweep takes everything before tail out of the index, and returns how many bytes it appended again.
func (v *Volume) sweep(tail int64, second bool) (int64, error) {
	var keep []kept
	seen := 0
	visit := func(block, _ uint64, e index.Entry) index.Entry {
		if !e.Placed() || v.pos(e) >= tail {
			return e
		}
		if !e.IsData() {
			return 0
		}
		seen++
		if e.IsAhead() {
			v.count.wasted.Add(1)
		}
		if second && e.IsHot() && len(keep) < seen/keepShare+1 {
			keep = append(keep, kept{block, e})
			return e
		}
		return 0
	}
	if err := v.eachEntry(visit); err != nil {
		return 0, err
	}
	// In the order of the log, as they are likely to lie near each other.
	slices.SortFunc(keep, func(a, b kept) int { return cmp.Compare(v.pos(a.entry), v.pos(b.entry)) })
	return v.again(keep)
}

// again appends blocks at the head, or drops them if that cannot be done now.
func (v *Volume) again(keep []kept) (int64, error) {
	s := v.scrap.Get().(*scratch)
	defer v.scrap.Put(s)
	n := int64(0)
	for i, k := range keep {
		ok, err := v.readKept(s, k)
		if err == nil && !ok {
			err = errChanged // the disk gives back something else; the store has it
		}
		if err == nil {
			err = v.appendKept(s, k)
		}
		switch {
		case err == nil:
			n += blockSize
		case v.ctx.Err() != nil:
			return 0, v.ctx.Err()
		case errors.Is(err, log.ErrPoisoned):
			return 0, err
		case errors.Is(err, log.ErrLogFull), errors.Is(err, context.DeadlineExceeded):
			v.dropKept(keep[i:])
			return n, nil
		default:
			v.dropKept(keep[i : i+1])
		}
	}
	return n, nil
}

func (v *Volume) readKept(s *scratch, k kept) (bool, error) {
	s.run[0] = k.entry
	pos := v.pos(k.entry)
	if err := v.log.Read(s.block(), pos); err != nil {
		return false, err
	}
	return v.log.Young(pos) || v.matches(s.page, s.run[:1]) < 0, nil
}

// keepPatience is how long the cleaner waits for the log's writer.
const keepPatience = time.Second

func (v *Volume) appendKept(s *scratch, k kept) error {
	ctx, cancel := context.WithTimeout(v.ctx, keepPatience)
	defer cancel()
	r := record(log.Fill, s.page, int64(k.block)*blockSize, s.sums.of(s.page))
	r.Reserve = true
	for {
		v.mu.Lock()
		err := errChanged
		if v.index.Get(k.block).Same(k.entry) {
			_, err = v.appendLocked(&r, index.Clean)
		}
		v.mu.Unlock()
		if !errors.Is(err, log.ErrWindowFull) {
			return err
		}
		if err := v.waitRoom(ctx, blockSize, true); err != nil {
			return fmt.Errorf("keep block %d: %w", k.block, err)
		}
	}
}

func (v *Volume) dropKept(list []kept) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, k := range list {
		if v.index.Get(k.block).Same(k.entry) {
			v.index.Set(k.block, 0)
		}
	}
}

// Evict frees about so many bytes of what the store has, whether it has been read or not, and returns how
// many it did.
func (v *Volume) Evict(ctx context.Context, bytes int64) (int64, error) {
	v.clean.request.Lock()
	defer v.clean.request.Unlock()
	var freed int64
	for freed < bytes && ctx.Err() == nil {
		n, err := v.free(bytes-freed, false)
		if err != nil {
			return freed, fmt.Errorf("evict: %w", err)
		}
		if n == 0 {
			break
		}
		freed += n
	}
	return freed, ctx.Err()
}
