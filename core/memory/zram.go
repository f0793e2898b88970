package memory

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The device that the module makes when it is loaded.
const (
	device        = "dev/zram0"
	sizeFile      = "sys/block/zram0/disksize"
	algorithmFile = "sys/block/zram0/comp_algorithm"
	compactFile   = "sys/block/zram0/compact"
	statFile      = "sys/block/zram0/mm_stat"
)

// compressor was chosen by measurement (docs/explanation/memory.md): a box at rest has 2.4 MiB more than with lzo-rle, and the
// restart of a plugin, which waits for such pages, takes as long. zstd's working memory, for each CPU, is more than it saves.
// The device does not list it, but takes whatever compressor the kernel has. It works in 0.3 MiB for each CPU, so that it
// pays up to mostCPUs.
const (
	compressor = "deflate"
	mostCPUs   = 8
)

// fallback is what the device takes unless it is told another, and the module with it: the kernel cannot load it by itself here.
const fallback = "lzo_rle"

const (
	// Scarce is the memory of a machine, in bytes, below which a few MiB count for more than the milliseconds that
	// a restarted plugin waits for pages to come back.
	Scarce = 1792 << 20
	// share of the memory that the area can take at most, when nothing in it could be compressed. Besides the files of
	// the image only core may go there, and the device costs 24 bytes a page, used or not.
	share   = 16
	maxArea = 128 << 20
)

// areaSize is how large the swap area of a machine is, in bytes before compression; 0 for none.
func areaSize(total uint64, pageSize int) uint64 {
	if total >= Scarce {
		return 0
	}
	size := min(total/share, maxArea)
	return size - size%uint64(pageSize)
}

// compress makes the swap area.
func (s *settler) compress(size uint64) error {
	if err := s.load("zram"); err != nil {
		return fmt.Errorf("compress memory: %w", err)
	}
	page, err := header(size, os.Getpagesize())
	if err != nil {
		return err
	}
	if s.cpus > mostCPUs || s.write(algorithmFile, compressor) != nil {
		if err := s.load(fallback); err != nil {
			return fmt.Errorf("compress memory: %w", err)
		}
	}
	if err := s.write(sizeFile, strconv.FormatUint(size, 10)); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(device), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("make swap area: %w", err)
	}
	_, err = f.Write(page)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make swap area: %w", err)
	}
	if err := s.swapon(s.path(device)); err != nil {
		return fmt.Errorf("swap to %s: %w", device, err)
	}
	return s.tuneSwap()
}

// saved is what the device saves, in bytes: the size of what was written to it less the memory it takes. It is what a
// step of reclaim brings, whatever else is going on in the box.
func saved(stat string) int64 {
	var original, compressed, used int64
	if _, err := fmt.Sscan(stat, &original, &compressed, &used); err != nil {
		return 0
	}
	return original - used
}

// swapon is swapon(2), which package unix lacks.
func swapon(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(p)), 0, 0)
	runtime.KeepAlive(p)
	if errno != 0 {
		return errno
	}
	return nil
}
