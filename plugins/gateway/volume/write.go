package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// pieceSize is the most that one record of a long write carries: it leaves a group room for others.
const pieceSize = 256 << 10

// WriteAt returns when p is durable in the local log and visible to every reader. While the log
// is full it waits. After an error or the end of ctx any part may have been written.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := v.enter(ctx, off, int64(len(p))); err != nil {
		return fmt.Errorf("write %d+%d: %w", off, len(p), err)
	}
	v.count.writes.Add(1)
	return v.submit(ctx, func(add func(log.Record) error) error {
		for len(p) > 0 {
			r := log.Record{Kind: log.Write, Off: off}
			in := off % blockSize
			switch n := int64(len(p)) &^ (blockSize - 1); {
			case in != 0 || n == 0:
				r.Kind, r.Len = log.Patch, min(blockSize-in, int64(len(p)))
			default:
				r.Len = min(n, pieceSize)
			}
			r.Data = p[:r.Len]
			if err := add(r); err != nil {
				return err
			}
			p, off = p[r.Len:], off+r.Len
		}
		return nil
	})
}

// Zero makes a range read as zeroes. It costs a record, however long the range is.
func (v *Volume) Zero(ctx context.Context, off, n int64) error {
	if err := v.enter(ctx, off, n); err != nil {
		return fmt.Errorf("zero %d+%d: %w", off, n, err)
	}
	return v.submit(ctx, func(add func(log.Record) error) error {
		for n > 0 {
			r := log.Record{Kind: log.Zero, Off: off}
			in := off % blockSize
			if whole := n &^ (blockSize - 1); in != 0 || whole == 0 {
				r.Kind, r.Len = log.Patch, min(blockSize-in, n)
				r.Data = zeroes[:r.Len]
			} else {
				r.Len = whole
			}
			if err := add(r); err != nil {
				return err
			}
			off, n = off+r.Len, n-r.Len
		}
		return nil
	})
}

var zeroes [blockSize]byte

// Trim tells that a range is not needed. Its whole blocks read as zeroes afterwards; parts of
// blocks are left alone.
func (v *Volume) Trim(ctx context.Context, off, n int64) error {
	first := (off + blockSize - 1) &^ (blockSize - 1)
	last := (off + n) &^ (blockSize - 1)
	if last <= first {
		return v.enter(ctx, off, n)
	}
	return v.Zero(ctx, first, last-first)
}

// Flush returns when everything acknowledged before the call is durable. Acknowledged writes are
// durable already; what is still under way is waited for.
func (v *Volume) Flush(ctx context.Context) error {
	if err := v.Err(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return v.explain(v.writer.Flush(ctx))
}

// enter checks a request that changes the volume and waits until changes are admitted.
func (v *Volume) enter(ctx context.Context, off, n int64) error {
	if off < 0 || n < 0 || off > v.o.Size-n {
		return ErrRange
	}
	select {
	case <-v.admitted:
	default:
		select {
		case <-v.admitted:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return v.Err()
}

// submit gives the records that fill adds to the log's writer and waits for the last one: groups
// are committed in order.
func (v *Volume) submit(ctx context.Context, fill func(add func(log.Record) error) error) error {
	var last *log.Batch
	err := fill(func(r log.Record) (err error) {
		last, err = v.writer.Submit(ctx, r)
		return err
	})
	if err == nil && last != nil {
		err = last.Wait(ctx)
	}
	return v.explain(err)
}

// explain names the reason when the log was closed because the volume failed.
func (v *Volume) explain(err error) error {
	if errors.Is(err, log.ErrClosed) && v.Err() != nil {
		return v.Err()
	}
	return err
}

// publish makes a durable group visible. Only the log's writer calls it.
func (v *Volume) publish(g *log.Group) {
	v.apply(g)
	v.up.published(g)
	poke(v.cut)
	if v.wantsRoom() {
		poke(v.tidy)
	}
}

func (v *Volume) apply(g *log.Group) {
	for i := range g.Records {
		r := &g.Records[i]
		first := uint64(r.Off) / blockSize
		switch r.Kind {
		case log.Write:
			for b := range uint64(r.Len) / blockSize {
				e := logEntry(r.Pos + int64(b)*blockSize)
				if v.index.get(first + b).patched() {
					v.over.replace(v.index, first+b, e)
				} else {
					v.index.set(first+b, e)
				}
			}
		case log.Patch:
			v.over.add(v.index, first, patch{pos: r.Pos, off: uint16(r.Off % blockSize), n: uint16(r.Len)})
		case log.Zero:
			v.over.zero(v.index, first, uint64(r.Len)/blockSize)
		}
	}
}

// replay is apply for groups from the disk, which are held to the volume's size.
func (v *Volume) replay(g *log.Group, size int64) error {
	for _, r := range g.Records {
		if r.Off > size-r.Len {
			return fmt.Errorf("record %d+%d: %w", r.Off, r.Len, ErrRange)
		}
	}
	v.apply(g)
	return nil
}
