package gateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
)

// backend shows a volume to the NBD server. What it acknowledges is durable.
type backend struct{ v *volume.Volume }

// ringBackend acknowledges in the ring, which outlives this process.
type ringBackend struct{ backend }

var (
	_ nbd.Backend       = backend{}
	_ nbd.FastReader    = backend{}
	_ nbd.Cacher        = backend{}
	_ nbd.StateReporter = backend{}
	_ nbd.FastWriter    = ringBackend{}
	_ nbd.LoneWriter    = ringBackend{}
)

const (
	sectorSize    = 512 // smaller requests work but no client needs them
	preferredSize = 4096
	// maxScan bounds what one BLOCK_STATUS looks at.
	maxScan = 16 << 30
)

func (b backend) Size() uint64 { return uint64(b.v.Size()) }

func (b backend) BlockSize() (minimum, preferred, maximum uint32) {
	return sectorSize, preferredSize, nbd.MaxRequest
}

func (b backend) ReadAt(ctx context.Context, p []byte, off uint64) error {
	return translate(b.v.ReadAt(ctx, p, int64(off)))
}

func (b backend) TryReadAt(p []byte, off uint64) bool { return b.v.TryReadAt(p, int64(off)) }

func (b backend) WriteAt(ctx context.Context, p []byte, off uint64, _ bool) error {
	return translate(b.v.WriteAt(ctx, p, int64(off), true))
}

func (b backend) Trim(ctx context.Context, off, n uint64, _ bool) error {
	return translate(b.v.Trim(ctx, int64(off), int64(n), true))
}

// WriteZeroes keeps no space for later writes with ZeroNoHole either: a write to the log needs the
// same space whether the block was a hole or not, and waits for it instead of failing.
func (b backend) WriteZeroes(ctx context.Context, off, n uint64, _ nbd.ZeroFlags) error {
	return translate(b.v.Zero(ctx, int64(off), int64(n), true))
}

func (b ringBackend) TryWriteAt(p []byte, off uint64) bool { return b.v.TryWriteAt(p, int64(off)) }

func (b ringBackend) TryWriteAlone(p []byte, off uint64) (done, due bool) {
	return b.v.TryWriteAlone(p, int64(off))
}

func (b ringBackend) FlushAhead() { b.v.FlushAhead() }

func (b ringBackend) WriteAt(ctx context.Context, p []byte, off uint64, fua bool) error {
	return translate(b.v.WriteAt(ctx, p, int64(off), fua))
}

func (b ringBackend) Trim(ctx context.Context, off, n uint64, fua bool) error {
	return translate(b.v.Trim(ctx, int64(off), int64(n), fua))
}

func (b ringBackend) WriteZeroes(ctx context.Context, off, n uint64, flags nbd.ZeroFlags) error {
	return translate(b.v.Zero(ctx, int64(off), int64(n), flags&nbd.ZeroFUA != 0))
}

func (b backend) Flush(ctx context.Context) error { return translate(b.v.Flush(ctx)) }

func (b backend) Cache(ctx context.Context, off, n uint64) error {
	return translate(b.v.Prefetch(ctx, int64(off), int64(n)))
}

func (b backend) BlockStatus(_ context.Context, off, n uint64, one bool) ([]nbd.Extent, error) {
	var list []nbd.Extent
	for _, e := range b.v.Extents(int64(off), int64(min(n, maxScan)), one) {
		zero := e.State&volume.Zero != 0
		list = append(list, nbd.Extent{Len: uint64(e.Len), Hole: zero, Zero: zero})
	}
	return list, nil
}

// StateOf answers for the context ratchet:state.
func (b backend) StateOf(_ context.Context, off, n uint64, one bool) ([]nbd.StateExtent, error) {
	var list []nbd.StateExtent
	for _, e := range b.v.Extents(int64(off), int64(min(n, maxScan)), one) {
		var s nbd.State
		for _, bit := range []struct {
			of   volume.State
			wire nbd.State
		}{{volume.Local, nbd.StateLocal}, {volume.Dirty, nbd.StateDirty}, {volume.Remote, nbd.StateRemote}, {volume.Zero, nbd.StateZero}} {
			if e.State&bit.of != 0 {
				s |= bit.wire
			}
		}
		list = append(list, nbd.StateExtent{Len: uint64(e.Len), State: s})
	}
	return list, nil
}

// translate chooses what the client is told; what is not listed is an I/O error.
func translate(err error) error {
	switch {
	case errors.Is(err, volume.ErrRange):
		return fmt.Errorf("%w: %w", nbd.ErrInvalid, err)
	case errors.Is(err, volume.ErrClosed):
		return fmt.Errorf("%w: %w", nbd.ErrShutdown, err)
	}
	return err
}
