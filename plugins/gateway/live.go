package gateway

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
)

// sameButLive compares two sections but for what a volume can change while it serves, and for what of its exports is the
// companion's concern: to whom and where. That it has one makes others read it only.
func sameButLive(a, b Config) bool {
	if len(a.Volumes) != len(b.Volumes) {
		return false
	}
	b.Volumes = slices.Clone(b.Volumes)
	sameExports := true
	for i := range a.Volumes {
		b.Volumes[i] = b.Volumes[i].with(a.Volumes[i])
		name := a.Volumes[i].Name
		sameExports = sameExports && a.Target.Exports(name) == b.Target.Exports(name)
	}
	if sameExports {
		b.Target = a.Target
	}
	return reflect.DeepEqual(a, b)
}

// with takes over from other what can change while a volume serves.
func (c VolumeConfig) with(other VolumeConfig) VolumeConfig {
	c.Size, c.WarnAt = other.Size, other.WarnAt
	c.Upload.Hold, c.Upload.Bandwidth = other.Upload.Hold, other.Upload.Bandwidth
	return c
}

// refuses says why a volume cannot be brought to new settings.
func (r *runner) refuses(next VolumeConfig) error {
	v, _, _ := r.current()
	switch size := int64(next.Size); {
	case v == nil || size == v.Size():
		return nil
	case size < v.Size():
		return fmt.Errorf("volume %s has %s and does not become smaller by itself: ratchetctl volume resize %s %s --shrink",
			r.name, plugin.Size(v.Size()), r.name, next.Size)
	}
	if err := v.Err(); err != nil {
		return fmt.Errorf("volume %s cannot grow: %w", r.name, err)
	}
	return nil
}

// startsOver says whether new settings are worth another start, of a volume that could not come up with its size and is not tried
// any more.
func (r *runner) startsOver(next VolumeConfig) bool {
	v, _, err := r.current()
	return v == nil && hopeless(err) && !errors.Is(err, errRetired) && next.Size != r.settings().Size
}

// change brings a volume to new settings, or has it come up with them.
func (r *runner) change(ctx context.Context, next VolumeConfig) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	if v, _, _ := r.current(); v != nil {
		if err := r.bring(ctx, v, next); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.config = r.config.with(next)
	r.mu.Unlock()
	r.changed()
	return nil
}

// bring has a volume that is open take settings over.
func (r *runner) bring(ctx context.Context, v *volume.Volume, c VolumeConfig) error {
	switch size := int64(c.Size); {
	case size < v.Size():
		return fmt.Errorf("volume %s has %s, configured are %s: %w", r.name, plugin.Size(v.Size()), c.Size, volume.ErrShrink)
	case size > v.Size():
		if err := v.Resize(ctx, size); err != nil {
			return err
		}
	}
	v.HoldUpload(c.Upload.Hold)
	r.pace.set(c.Upload.Bandwidth)
	return nil
}
