package gateway

import (
	"context"
	"fmt"
	"math"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
)

func (f *Feature) evict(ctx context.Context, request []byte) (any, error) {
	var q api.EvictRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	r, err := f.find(q.Name)
	if err != nil {
		return nil, err
	}
	v, err := r.up()
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
	r, err := f.find(q.Name)
	if err != nil {
		return nil, err
	}
	v, err := r.up()
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

// release gives back the disk space of a volume that is not configured any more. It says so if there is none: the
// volume may have been on a disk that is gone.
func (f *Feature) release(_ context.Context, request []byte) (any, error) {
	var q api.VolumeRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.runners {
		if r.name == q.Name {
			return nil, fmt.Errorf("volume %s is configured: take it out first, with ratchetctl volume delete", q.Name)
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
