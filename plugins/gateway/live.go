package gateway

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

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

const (
	defaultScrubEvery = 7 * 24 * time.Hour
	defaultScrubRate  = 16 << 20
	// firstScrub comes soon after a start: a gateway that is restarted often is scrubbed all the same.
	firstScrub = time.Hour
)

// scrub checks the volume's part of the disk again and again, after its neighbours and not beside them.
func (r *runner) scrub(ctx context.Context, c ScrubConfig) {
	every, rate := time.Duration(c.Every), int64(c.Rate)
	if every == 0 {
		every = defaultScrubEvery
	}
	if rate == 0 {
		rate = defaultScrubRate
	}
	for wait := min(every, firstScrub); ; wait = every {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		v, _, _ := r.current()
		if v == nil {
			continue
		}
		r.disk.scrubbing.Lock()
		err := v.Scrub(ctx, rate)
		r.disk.scrubbing.Unlock()
		if err != nil && ctx.Err() == nil {
			r.log.Warn("scrub ended early", "volume", r.name, "error", err)
		}
	}
}
