package gateway

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/ratchetos/ratchet/core/plugin"
)

// sameButLive compares two sections but for what a volume can change while it serves.
func sameButLive(a, b Config) bool {
	if len(a.Volumes) != len(b.Volumes) {
		return false
	}
	b.Volumes = slices.Clone(b.Volumes)
	for i := range a.Volumes {
		b.Volumes[i] = b.Volumes[i].with(a.Volumes[i])
	}
	return reflect.DeepEqual(a, b)
}

// with takes over from other what can change while a volume serves.
func (c VolumeConfig) with(other VolumeConfig) VolumeConfig {
	c.Size, c.WarnAt = other.Size, other.WarnAt
	c.Upload.Hold, c.Upload.Bandwidth = other.Upload.Hold, other.Upload.Bandwidth
	return c
}

// change brings a volume to new settings.
func (r *runner) change(ctx context.Context, next VolumeConfig) error {
	v, _, _ := r.current()
	if v != nil {
		switch size := int64(next.Size); {
		case size < v.Size():
			return fmt.Errorf("volume %s has %s and does not become smaller by itself: ratchetctl volume resize %s %s --shrink",
				r.name, plugin.Size(v.Size()), r.name, next.Size)
		case size > v.Size():
			if err := v.Resize(ctx, size); err != nil {
				return err
			}
		}
		v.HoldUpload(next.Upload.Hold)
		r.pace.set(next.Upload.Bandwidth)
	}
	r.mu.Lock()
	r.config = r.config.with(next)
	r.mu.Unlock()
	r.changed()
	return nil
}
