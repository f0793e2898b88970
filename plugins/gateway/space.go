package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
)

func (f *Feature) evict(ctx context.Context, request []byte) (any, error) {
	var q api.EvictRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	r, v, err := f.open(q.Name)
	if err != nil {
		return nil, err
	}
	if q.Bytes == 0 || q.Bytes > math.MaxInt64 {
		q.Bytes = math.MaxInt64
	}
	n, err := v.Evict(ctx, int64(q.Bytes))
	if err != nil {
		return nil, fmt.Errorf("evict from volume %s: %w", q.Name, err)
	}
	return api.EvictReply{Bytes: uint64(n), Volume: r.show()}, nil
}

func (f *Feature) shrink(ctx context.Context, request []byte) (any, error) {
	var q api.ShrinkRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	r, v, err := f.open(q.Name)
	if err != nil {
		return nil, err
	}
	if q.Size > uint64(v.Size()) {
		return nil, fmt.Errorf("volume %s has %d bytes: it grows with the configuration, by ratchetctl volume resize", q.Name, v.Size())
	}
	if err := v.Resize(ctx, int64(q.Size)); err != nil {
		return nil, err
	}
	return r.show(), nil
}

// release gives back the disk space of a volume. It says so if there is none: the volume may have been on a disk that
// is gone.
func (f *Feature) release(_ context.Context, request []byte) (any, error) {
	var q api.ReleaseRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.runners {
		switch {
		case r.name != q.Name:
		case !q.Configured:
			return nil, fmt.Errorf("volume %s is configured: take it out with ratchetctl volume delete", q.Name)
		default:
			if err := r.retire(); err != nil {
				return nil, err
			}
		}
	}
	for _, d := range f.disks {
		n, found, err := d.release(q.Name)
		if err != nil {
			return nil, fmt.Errorf("give back the space of volume %s on %s: %w", q.Name, d.handle.ID, err)
		}
		if found {
			return api.ReleaseReply{Disk: d.handle.ID, Bytes: uint64(n)}, nil
		}
	}
	return api.ReleaseReply{}, nil
}

// errRetired is a volume that was deleted and is still configured.
var errRetired = errors.New("deleted; it comes back when the gateway restarts, unless it is taken out of the configuration")

// retire ends the volume for good, so that nothing uses its part of the disk any more.
func (r *runner) retire() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(r.err, errRetired):
		return nil
	case r.volume == nil && !hopeless(r.err) && r.state != stateNeedsClaim:
		return fmt.Errorf("volume %s is %s and may come up at any moment: try again when it has, or when it has failed", r.name, r.state)
	}
	err := r.end()
	r.volume, r.store, r.exports = nil, nil, nil
	r.state, r.err = string(volume.Failed), errRetired
	if err != nil {
		r.log.Warn("volume did not close in order", "volume", r.name, "error", err)
	}
	return nil
}
