package volume

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

var zeroes [blockSize]byte

// zeroStep bounds what one record makes zero, and so for how long the lock is held: for microseconds where the log holds
// little of it, and for some 3 ms a GiB where it holds all.
const zeroStep = 64 << 30

// Zero makes a range read as zeroes. It costs a record, however long the range is.
func (v *Volume) Zero(ctx context.Context, off, n int64, durable bool) error {
	if err := v.enter(ctx, off, n); err != nil {
		return fmt.Errorf("zero %d+%d: %w", off, n, err)
	}
	v.count.zeroes.Add(1)
	end, err := v.zero(ctx, off, n)
	if err == nil && durable {
		err = v.log.FlushTo(ctx, end)
	}
	if err != nil {
		return fmt.Errorf("zero %d+%d: %w", off, n, v.explain(err))
	}
	return nil
}

func (v *Volume) zero(ctx context.Context, off, n int64) (end int64, err error) {
	for n > 0 && err == nil {
		in := off % blockSize
		step := min(n&^(blockSize-1), zeroStep)
		if in != 0 || step == 0 {
			step = min(blockSize-in, n)
			end, err = v.write(ctx, zeroes[:step], off)
		} else {
			end, err = v.put(ctx, log.Record{Kind: log.Zero, Off: off, Len: step}, nil)
		}
		off, n = off+step, n-step
	}
	return end, err
}

// Trim tells that a range is not needed. Its whole blocks read as zeroes afterwards; parts of
// blocks are left alone.
func (v *Volume) Trim(ctx context.Context, off, n int64, durable bool) error {
	first := (off + blockSize - 1) &^ (blockSize - 1)
	last := (off + n) &^ (blockSize - 1)
	if off < 0 || n < 0 || off > v.Size()-n || last <= first {
		return v.enter(ctx, off, n)
	}
	return v.Zero(ctx, first, last-first, durable)
}
