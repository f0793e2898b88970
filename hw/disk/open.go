package disk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Open opens a block device for its new owner. O_EXCL makes the kernel refuse a disk that is
// mounted, swapped on, part of an array, or open exclusively elsewhere; what is then an
// EBUSY says so.
func Open(node string) (*os.File, error) {
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_DIRECT|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err == unix.EBUSY {
		return nil, fmt.Errorf("open disk %s: it is in use (mounted, swap, RAID or another owner): %w", node, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open disk %s: %w", node, err)
	}
	return os.NewFile(uintptr(fd), node), nil
}
