package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/internal/cache"
)

// Slots is how many labs run on a machine at once: a pair of QEMUs under TCG fills two processors.
const Slots = 2

// takeSlot waits for a place. The kernel gives it back when the process ends.
func takeSlot(ctx context.Context) (release func(), err error) {
	dir, err := cache.Dir("lab")
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		for n := range Slots {
			f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("slot.%d", n)), os.O_RDWR|os.O_CREATE, 0o644)
			if err != nil {
				return nil, err
			}
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
				return func() { f.Close() }, nil
			}
			f.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock a lab slot: %w", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for one of %d lab slots of this machine: %w", Slots, context.Cause(ctx))
		}
	}
}
