// Package filedisk makes an open file or block device a log.Disk. It is the only part of the
// log that knows the operating system.
package filedisk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// Disk reads and writes at offsets, so many goroutines may share it.
type Disk struct {
	f    *os.File
	size int64
}

var _ log.Disk = (*Disk)(nil)

// New wraps f, which the caller keeps and closes. The size is that of the block device or file.
func New(f *os.File) (*Disk, error) {
	// Seeking to the end works for both, unlike stat; offsets are always explicit otherwise.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	return &Disk{f: f, size: size}, nil
}

// Size is in bytes.
func (d *Disk) Size() int64 { return d.size }

// ReadAt reads all of p or fails.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) { return d.f.ReadAt(p, off) }

// WriteAt writes all of p or fails.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) { return d.f.WriteAt(p, off) }

// Sync is fdatasync: size and allocation of the file never change, other metadata does not matter.
func (d *Disk) Sync() error {
	raw, err := d.f.SyscallConn()
	if err != nil {
		return fmt.Errorf("fdatasync %s: %w", d.f.Name(), err)
	}
	var syncErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if syncErr = unix.Fdatasync(int(fd)); !errors.Is(syncErr, unix.EINTR) {
				return
			}
		}
	})
	if err = errors.Join(err, syncErr); err != nil {
		return fmt.Errorf("fdatasync %s: %w", d.f.Name(), err)
	}
	return nil
}
