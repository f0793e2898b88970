package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// Resize changes the size. A larger volume has zeroes at its end, and the store learns of it with the next batch.
// What a smaller one leaves out is gone; that needs the store, so that nothing can bring it back.
// It may be repeated after any error.
func (v *Volume) Resize(ctx context.Context, size int64) error {
	if size <= 0 || size%blockSize != 0 {
		return fmt.Errorf("resize volume %s: size %d is not a multiple of %d", v.o.Name, size, blockSize)
	}
	if err := v.enter(ctx, 0, 0); err != nil {
		return fmt.Errorf("resize volume %s: %w", v.o.Name, err)
	}
	v.resizing.Lock()
	defer v.resizing.Unlock()
	var err error
	// The superblock says what a shrink that did not come to its end began with.
	if size < max(v.Size(), v.log.Superblock().UserSize) {
		err = v.shrink(ctx, size)
	} else {
		err = v.grow(size)
	}
	if err != nil {
		return fmt.Errorf("resize volume %s: %w", v.o.Name, v.explain(err))
	}
	return nil
}

func (v *Volume) grow(size int64) error {
	v.mu.Lock()
	err := v.index.Grow(uint64(size) / blockSize)
	v.mu.Unlock()
	if err != nil {
		return err
	}
	if err := v.log.SetUserSize(size); err != nil {
		return err
	}
	v.size.Store(size)
	poke(v.cut)
	return nil
}

func (v *Volume) shrink(ctx context.Context, size int64) error {
	if err := v.cutOff(ctx, size); err != nil {
		return err
	}
	// The store may be smaller than the disk says, for a start makes it as large again, but not larger.
	if err := v.WaitUploaded(ctx); err != nil {
		return err
	}
	for v.remote.Head().Size != size {
		changed := v.up.watch()
		poke(v.cut)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := v.Err(); err != nil {
			return err
		}
	}
	return v.log.SetUserSize(size)
}

// cutOff makes the volume end at size, with zeroes behind it.
func (v *Volume) cutOff(ctx context.Context, size int64) error {
	r := log.Record{Kind: log.Zero, Off: size, Len: v.Size() - size}
	if r.Len <= 0 { // an earlier shrink, which went further, has zeroed it
		v.size.Store(size)
		return nil
	}
	for {
		v.mu.Lock()
		_, err := v.appendLocked(&r, index.Dirty)
		if err == nil {
			v.size.Store(size) // nothing is appended behind it from here on
		}
		v.mu.Unlock()
		if err == nil {
			return nil
		}
		if !errors.Is(err, log.ErrLogFull) && !errors.Is(err, log.ErrWindowFull) {
			return err
		}
		if err := v.waitRoom(ctx, 0, false); err != nil {
			return err
		}
	}
}

// storeResizes reports whether the store has another size and can get this one. What a smaller one leaves
// out must have been zeroed there before.
func (v *Volume) storeResizes() bool {
	size, stored := v.Size(), v.remote.Head().Size
	return stored < size || stored > size && v.up.at.Load() >= v.dirty.Load()
}

// resizeStore makes the volume in the store as large as it is here. Only the uploader calls it.
func (v *Volume) resizeStore() error {
	if !v.storeResizes() {
		return nil
	}
	err := v.remote.Resize(v.ctx, v.Size())
	v.up.broadcast()
	return err
}
