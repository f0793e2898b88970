package volume

import (
	"context"
	"fmt"
)

// Resize changes the size. A larger volume has zeroes at its end; what a smaller one leaves out is gone.
func (v *Volume) Resize(ctx context.Context, size int64) error {
	if size <= 0 || size%blockSize != 0 {
		return fmt.Errorf("resize volume %s: size %d is not a multiple of %d", v.o.Name, size, blockSize)
	}
	v.resizing.Lock()
	defer v.resizing.Unlock()
	old := v.Size()
	switch {
	case size > old:
		v.mu.Lock()
		err := v.index.Resize(uint64(size) / blockSize)
		v.mu.Unlock()
		if err == nil {
			// A request that was under way while the volume shrank may have written here.
			_, err = v.zero(ctx, old, size-old)
		}
		if err != nil {
			return fmt.Errorf("resize volume %s: %w", v.o.Name, v.explain(err))
		}
	case size < old:
		// New requests are held to the new size. Those under way may still write behind it.
		v.size.Store(size)
		if _, err := v.zero(ctx, size, old-size); err != nil {
			v.size.Store(old)
			return fmt.Errorf("resize volume %s: %w", v.o.Name, v.explain(err))
		}
	}
	if err := v.log.Flush(ctx); err != nil {
		return fmt.Errorf("resize volume %s: %w", v.o.Name, v.explain(err))
	}
	if err := v.log.SetUserSize(size); err != nil {
		return fmt.Errorf("resize volume %s: %w", v.o.Name, err)
	}
	v.size.Store(size)
	return nil
}
