package gateway

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

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
//
// `volume delete` calls it before it changes the configuration. Should the power fail in between, the volume is still
// configured and has no space: the next start makes it anew on the disk, from the store, which has all of it.
func (f *Feature) release(ctx context.Context, request []byte) (any, error) {
	var q api.ReleaseRequest
	if err := decode(request, &q); err != nil {
		return nil, err
	}
	var own *localDisk // of a volume that is configured
	for _, r := range f.list() {
		if r.name != q.Name {
			continue
		}
		if own = r.disk; q.Configured {
			if err := r.retire(ctx, q.Force); err != nil {
				return nil, err
			}
		}
	}
	f.mu.Lock()
	disks := f.disks
	f.mu.Unlock()
	for _, d := range disks {
		// What a volume has left behind on another disk is given back by itself, and its part of its own with the volume.
		if own != nil && (d == own) != q.Configured {
			continue
		}
		n, found, err := d.release(q.Name)
		if err != nil {
			return nil, fmt.Errorf("give back the space of volume %s on %s: %w", q.Name, d.handle.ID, err)
		}
		if found {
			return api.ReleaseReply{Disk: d.handle.ID, Bytes: uint64(n)}, nil
		}
	}
	if own != nil && !q.Configured {
		return nil, fmt.Errorf("volume %s is configured: take it out with ratchetctl volume delete", q.Name)
	}
	return api.ReleaseReply{}, nil
}

// errRetired is a volume that was deleted and is still configured.
var errRetired = errors.New("deleted; it comes back when the gateway restarts, unless it is taken out of the configuration")

// lastUpload is how long what was written in the last moment may take to be uploaded; the caller has waited for the rest.
const lastUpload = 20 * time.Second

// retire ends the volume for good, so that nothing uses its part of the disk any more. Unless forced it does so only
// when nobody is connected and everything is in the store.
func (r *runner) retire(ctx context.Context, force bool) error {
	v, state, err := r.current()
	switch {
	case errors.Is(err, errRetired):
		return nil
	case v == nil && !force && !hopeless(err) && state != stateNeedsClaim:
		return fmt.Errorf("volume %s is %s and may come up at any moment: try again when it has, or when it has failed; --force gives up what is not uploaded", r.name, state)
	case v == nil && !force && hopeless(err):
		return fmt.Errorf("volume %s is %s, so that nobody knows what it has not uploaded: %w; --force gives that up", r.name, state, err)
	case v != nil && !force:
		if err := r.drain(ctx, v); err != nil {
			return err
		}
	case v == nil:
		if err := r.giveUp(ctx); err != nil {
			return err
		}
		if v, _, _ = r.current(); v != nil && !force {
			return fmt.Errorf("volume %s has just come up: try again", r.name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err = r.end()
	if err != nil {
		r.log.Warn("volume did not close in order", "volume", r.name, "error", err)
	}
	if v != nil && !force && v.Status().DirtyBytes > 0 {
		err = errors.New("it was written to while it was being deleted; nothing was given back: ratchetctl plugin restart gateway, and delete it again")
		r.volume, r.store, r.exports, r.state, r.err = nil, nil, nil, string(volume.Failed), err
		return fmt.Errorf("volume %s: %w", r.name, err)
	}
	r.volume, r.store, r.exports = nil, nil, nil
	r.state, r.err = string(volume.Failed), errRetired
	return nil
}

// giveUp ends trying to bring the volume up, and returns when nobody tries any more.
func (r *runner) giveUp(ctx context.Context) error {
	r.quit()
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("volume %s is on its way up: %w", r.name, ctx.Err())
	}
}

// drain closes the volume to clients and waits until everything is in the store. After an error it is open again.
func (r *runner) drain(ctx context.Context, v *volume.Volume) error {
	r.faces.remove(r.name)
	err := r.unused()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, lastUpload)
		defer cancel()
		if err = r.uploaded(ctx, v); err != nil {
			err = fmt.Errorf("%w; --force gives up what is not uploaded", err)
		}
	}
	if err == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.volume != v {
		return err // it was closed meanwhile
	}
	again, opened := r.faces.add(r.config, v, r.window != nil)
	r.exports = append(r.exports, again...)
	return errors.Join(err, opened)
}

// unused returns an error while clients are connected.
func (r *runner) unused() error {
	if n := r.requests().Connections; n > 0 {
		return fmt.Errorf("%d clients are connected to volume %s: detach them, or say --force", n, r.name)
	}
	return nil
}
