package gateway

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
)

// backend shows a volume to the NBD server.
type backend struct{ v *volume.Volume }

var (
	_ nbd.Backend    = backend{}
	_ nbd.FastReader = backend{}
	_ nbd.Cacher     = backend{}
)

const (
	sectorSize    = 512 // smaller requests work but no client needs them
	preferredSize = 4096
	// maxExtents bounds one reply to BLOCK_STATUS; clients ask again from where it ends.
	maxExtents = 4096
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

// WriteAt acknowledges only what is durable, so fua asks for nothing more.
func (b backend) WriteAt(ctx context.Context, p []byte, off uint64, _ bool) error {
	return translate(b.v.WriteAt(ctx, p, int64(off)))
}

func (b backend) Trim(ctx context.Context, off, n uint64, _ bool) error {
	return translate(b.v.Trim(ctx, int64(off), int64(n)))
}

// WriteZeroes keeps no space for later writes with ZeroNoHole either: a write to the log needs the
// same space whether the block was a hole or not, and waits for it instead of failing.
func (b backend) WriteZeroes(ctx context.Context, off, n uint64, _ nbd.ZeroFlags) error {
	return translate(b.v.Zero(ctx, int64(off), int64(n)))
}

func (b backend) Flush(ctx context.Context) error { return translate(b.v.Flush(ctx)) }

func (b backend) Cache(ctx context.Context, off, n uint64) error {
	return translate(b.v.Prefetch(ctx, int64(off), int64(n)))
}

func (b backend) BlockStatus(_ context.Context, off, n uint64, one bool) ([]nbd.Extent, error) {
	limit := maxExtents
	if one {
		limit = 1
	}
	var list []nbd.Extent
	for _, e := range b.v.Extents(int64(off), int64(min(n, maxScan)), limit) {
		list = append(list, nbd.Extent{Len: uint64(e.Len), Hole: e.Zero, Zero: e.Zero})
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
