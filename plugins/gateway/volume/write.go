package volume

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

const (
	blockSize  = log.BlockSize
	cellBlocks = index.BlocksPerCell
	cellSize   = cellBlocks * blockSize

	chunkBlocks = index.BlocksPerChunk
	// pieceBlocks is the most that is appended under one hold of the lock; a longer write is not acknowledged
	// inline either.
	pieceBlocks = 1 << 20 / blockSize
)

// sums are the checksums of one piece.
type sums [pieceBlocks]uint32

func (s *sums) of(p []byte) []uint32 {
	n := len(p) / blockSize
	for i := range n {
		s[i] = log.Checksum(p[i*blockSize : (i+1)*blockSize])
	}
	return s[:n]
}

// TryWriteAt acknowledges a write in the ring, or returns false without waiting. After false part
// of it may have been written.
func (v *Volume) TryWriteAt(p []byte, off int64) bool { return v.tryWrite(p, off, false) }

// TryWriteAlone is TryWriteAt for a client that sends nothing before it has its answer. With due its next request is
// likely to be a flush, and FlushAhead, called when the client has been answered, begins it.
func (v *Volume) TryWriteAlone(p []byte, off int64) (done, due bool) {
	done = v.tryWrite(p, off, true)
	return done, v.log.FlushDue()
}

// FlushAhead makes durable what has been acknowledged, unless others do. Errors are those of the next Flush.
func (v *Volume) FlushAhead() { v.log.FlushAhead() }

func (v *Volume) tryWrite(p []byte, off int64, alone bool) bool {
	n := int64(len(p))
	if off < 0 || off > v.Size()-n || !v.open.Load() || v.failure.Load() != nil || n > pieceBlocks*blockSize {
		return false
	}
	if (off|n)%blockSize != 0 {
		return v.tryPart(p, off)
	}
	s := v.scrap.Get().(*scratch)
	r := record(log.Write, p, off, s.sums.of(p))
	r.Alone = alone
	_, err := v.append(context.Background(), &r, nil)
	v.scrap.Put(s)
	if err != nil {
		return false
	}
	v.count.writes.Add(1)
	return true
}

// WriteAt returns when p is acknowledged: in the ring and visible to every reader, or, if durable is set,
// on the disk. While the log is full it waits. After an error or the end of ctx any part may have
// been written; after the end of ctx nothing is written any more.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64, durable bool) error {
	if err := v.enter(ctx, off, int64(len(p))); err != nil {
		return fmt.Errorf("write %d+%d: %w", off, len(p), err)
	}
	v.count.writes.Add(1)
	end, err := v.write(ctx, p, off)
	if err == nil && durable {
		err = v.log.FlushTo(ctx, end)
	}
	if err != nil {
		return fmt.Errorf("write %d+%d: %w", off, len(p), v.explain(err))
	}
	return nil
}

// write appends p in whole blocks as far as possible and returns the position behind it in the log.
func (v *Volume) write(ctx context.Context, p []byte, off int64) (end int64, err error) {
	s := v.scrap.Get().(*scratch)
	defer v.scrap.Put(s)
	for len(p) > 0 && err == nil {
		n := int64(len(p))
		switch in := off % blockSize; {
		case in != 0 || n < blockSize:
			n = min(blockSize-in, n)
			end, err = v.writePart(ctx, s, p[:n], off)
		default:
			n = min(n&^(blockSize-1), pieceBlocks*blockSize)
			end, err = v.put(ctx, record(log.Write, p[:n], off, s.sums.of(p[:n])), nil)
		}
		p, off = p[n:], off+n
	}
	return end, err
}

func record(kind log.Kind, p []byte, off int64, sums []uint32) log.Record {
	return log.Record{Kind: kind, Off: off, Len: int64(len(p)), Data: p, Sums: sums}
}

// put is append that waits for room.
func (v *Volume) put(ctx context.Context, r log.Record, still func() bool) (end int64, err error) {
	for {
		end, err = v.append(ctx, &r, still)
		if err == nil || !errors.Is(err, log.ErrLogFull) && !errors.Is(err, log.ErrWindowFull) {
			return end, err
		}
		if errors.Is(err, log.ErrLogFull) {
			v.count.stalls.Add(1)
			v.clean.waiting.Add(1)
			poke(v.tidy)
		}
		werr := v.waitRoom(ctx, int64(len(r.Data)), false)
		if errors.Is(err, log.ErrLogFull) {
			v.clean.waiting.Add(-1)
		}
		if werr != nil {
			return 0, werr
		}
	}
}

// waitRoom waits until the log takes n more bytes, or nothing any more.
func (v *Volume) waitRoom(ctx context.Context, n int64, reserve bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.writing, cancel)()
	err := v.log.WaitRoom(ctx, n, reserve)
	if err != nil && v.Err() != nil {
		return v.Err()
	}
	return err
}

// errChanged means that a block is no longer what the caller has seen.
var errChanged = errors.New("block has changed meanwhile")

// append puts one record into the log and the index, in one step for everybody else. A Write that does not
// fit whole is taken in parts; after an error r is what was not taken. still is asked first whether
// the record is still true. Once ctx has ended nothing is appended: others may have written there and been told so.
func (v *Volume) append(ctx context.Context, r *log.Record, still func() bool) (end int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if still != nil && !still() {
		return 0, errChanged
	}
	return v.appendLocked(r, index.Dirty)
}

// appendLocked needs mu. entry makes the index entries of Write and Fill.
func (v *Volume) appendLocked(r *log.Record, entry func(place, sum uint32) index.Entry) (end int64, err error) {
	if r.Off > v.Size()-r.Len {
		return 0, ErrRange // it has become smaller meanwhile
	}
	if err := v.prepare(r.Kind, r.Off, r.Len); err != nil {
		return 0, err
	}
	for r.Len > 0 {
		pos, n, err := v.log.Append(*r)
		if err != nil {
			return 0, err
		}
		end = pos + n
		if r.Kind == log.Zero {
			end = pos
		}
		// Readers resolve places against head, so it goes first.
		v.head.Store(end)
		if v.o.mutant == mutantPublishLate && r.Kind == log.Write {
			rest := append([]uint32(nil), r.Sums[:n/blockSize]...)
			time.AfterFunc(time.Millisecond, func() {
				v.mu.Lock()
				v.publish(r.Kind, r.Off, n, pos, rest)
				v.mu.Unlock()
			})
		} else {
			v.publishAs(r.Kind, r.Off, n, pos, r.Sums, entry)
		}
		if v.o.mutant == mutantUploadEarly && r.Kind == log.Write {
			v.early.Store(&log.Record{Kind: log.Write, Off: r.Off, Len: n, Data: append([]byte(nil), r.Data[:n]...)})
		}
		if r.Kind != log.Fill {
			v.dirty.Store(end)
			v.up.wrote()
		}
		r.Off, r.Len = r.Off+n, r.Len-n
		if r.Kind != log.Zero {
			r.Data = r.Data[n:]
		}
		if r.Kind == log.Write || r.Kind == log.Fill {
			r.Sums = r.Sums[n/blockSize:]
		}
	}
	v.appended(end)
	return end, nil
}

// appended wakes those who have work once enough was written.
func (v *Volume) appended(end int64) {
	if end >= v.cutAt.Load() {
		v.cutAt.Store(math.MaxInt64) // once
		poke(v.cut)
	}
	if end-v.poked >= v.clean.look {
		v.poked = end
		poke(v.tidy)
	}
}

// prepare takes the memory that publish can need.
func (v *Volume) prepare(kind log.Kind, off, n int64) error {
	if kind == log.Zero {
		return v.index.PrepareZero()
	}
	first := uint64(off) / blockSize
	return v.index.Prepare(first, uint64(off+n-1)/blockSize-first+1)
}

// publish makes a record visible, in the order of the log: under mu, or while it is replayed.
func (v *Volume) publish(kind log.Kind, off, n, pos int64, sums []uint32) {
	entry := index.Dirty
	if kind == log.Fill {
		entry = index.Clean
	}
	v.publishAs(kind, off, n, pos, sums, entry)
}

func (v *Volume) publishAs(kind log.Kind, off, n, pos int64, sums []uint32, entry func(place, sum uint32) index.Entry) {
	first, size := uint64(off)/blockSize, v.log.Size()
	if kind != log.Zero {
		v.unblank(first/chunkBlocks, uint64(off+n-1)/blockSize/chunkBlocks)
	}
	switch kind {
	case log.Write, log.Fill:
		v.over.forget(first, uint64(n)/blockSize)
		v.index.Run(first, uint32(pos%size/blockSize), sums[:n/blockSize], entry)
	case log.Patch:
		v.over.add(v.index, first, patch{pos: pos, off: uint16(off % blockSize), n: uint16(n), sum: sums[0]})
	case log.Zero:
		v.over.forget(first, uint64(n)/blockSize)
		// A record without payload lies at the end of what its group has so far: the block before belongs to
		// the group in any case.
		v.index.Fill(first, uint64(n)/blockSize, index.Zero(uint32((pos-blockSize)%size/blockSize)))
	}
}

// pos is where in the log an entry that was just looked up lies.
func (v *Volume) pos(e index.Entry) int64 { return logical(e.Place(), v.head.Load(), v.log.Size()) }

// Flush returns when everything acknowledged before the call, by anybody, is durable.
func (v *Volume) Flush(ctx context.Context) error {
	if err := v.Err(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	v.count.flushes.Add(1)
	if err := v.log.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", v.explain(err))
	}
	return nil
}

// enter checks a request that changes the volume and waits until changes are admitted.
func (v *Volume) enter(ctx context.Context, off, n int64) error {
	if off < 0 || n < 0 || off > v.Size()-n {
		return ErrRange
	}
	select {
	case <-v.admitted:
	case <-ctx.Done():
		return ctx.Err()
	}
	return v.Err()
}

// explain names the reason when the log was closed because the volume failed.
func (v *Volume) explain(err error) error {
	if errors.Is(err, log.ErrClosed) && v.Err() != nil {
		return v.Err()
	}
	return err
}
