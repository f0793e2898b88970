package ledger

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// File is a Medium on a block device or a file.
type File struct{ *os.File }

var _ Medium = File{}

// OpenFile opens the partition at path; readOnly is for everybody but init and core.
func OpenFile(path string, readOnly bool) (File, error) {
	flags := os.O_RDWR
	if readOnly {
		flags = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return File{}, fmt.Errorf("open LEDGER: %w", err)
	}
	return File{f}, nil
}

// Sync implements Medium. It drops the page cache, so that reading back reads the medium.
func (f File) Sync() error {
	if err := f.File.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
