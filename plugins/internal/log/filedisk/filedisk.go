// Package filedisk makes an open file or block device a log.Disk. It is the only part of the
// log that knows the operating system.
//
// A disk has two open file descriptions: one past the page cache (O_DIRECT) for writes and scans,
// one through it for hits. The kernel drops pages from the cache when a direct write passes over
// them, so the two agree. Without a second description everything goes through the cache.
package filedisk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// Options of New; the zero value works.
type Options struct {
	// Cached is another open file description of the same file, for reads through the page
	// cache. With nil New opens one by way of /proc, if it may.
	Cached *os.File
	// WriteThrough says that the device has no volatile cache. With false New asks the kernel.
	WriteThrough bool
}

// Disk reads and writes at offsets, so many goroutines may share it.
type Disk struct {
	f            *os.File // direct, if cached is another
	cached       *os.File
	ours         bool // cached was opened by New
	size         int64
	writeThrough bool
}

var (
	_ log.Disk         = (*Disk)(nil)
	_ log.CachedReader = (*Disk)(nil)
)

// New wraps f, which the caller keeps and closes after the Disk. The size is that of the block
// device or file.
func New(f *os.File, o Options) (*Disk, error) {
	// Seeking to the end works for both, unlike stat; offsets are always explicit otherwise.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	d := &Disk{f: f, cached: o.Cached, size: size &^ (log.BlockSize - 1)}
	if d.cached == nil {
		// A description of its own: the flag must not be shared with f.
		d.cached, err = os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if d.ours = err == nil; !d.ours {
			d.cached = f
		}
	}
	if d.cached != f {
		// Where direct I/O is not to be had (tmpfs of old kernels), the cache serves both.
		if err := setDirect(f); err != nil && !errors.Is(err, unix.EINVAL) {
			return nil, errors.Join(fmt.Errorf("direct I/O on %s: %w", f.Name(), err), d.Close())
		}
	}
	d.writeThrough = o.WriteThrough || writeThrough(f)
	return d, nil
}

func setDirect(f *os.File) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags|unix.O_DIRECT)
	return err
}

// Close closes what New opened, not what it was given.
func (d *Disk) Close() error {
	if !d.ours {
		return nil
	}
	return d.cached.Close()
}

// Size is in bytes, whole blocks.
func (d *Disk) Size() int64 { return d.size }

// ReadAt reads all of p or fails.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	return transfer(d.f, p, off, "read", unix.Pread)
}

// WriteAt writes all of p or fails.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	return transfer(d.f, p, off, "write", unix.Pwrite)
}

// ReadCached reads all of p through the page cache or fails.
func (d *Disk) ReadCached(p []byte, off int64) error {
	_, err := transfer(d.cached, p, off, "read", unix.Pread)
	return err
}

// TryReadCached reads what the page cache holds all of.
func (d *Disk) TryReadCached(p []byte, off int64) bool {
	n, err := preadNoWait(int(d.cached.Fd()), p, off)
	return err == nil && n == len(p)
}

// Fetch begins to read into the page cache.
func (d *Disk) Fetch(off, n int64) { _ = unix.Fadvise(int(d.cached.Fd()), off, n, unix.FADV_WILLNEED) }

// transfer repeats a system call until it has moved all of p. The calls are made directly:
// os.File takes a lock and looks for a poller at each.
func transfer(f *os.File, p []byte, off int64, verb string, call func(int, []byte, int64) (int, error)) (int, error) {
	done := 0
	for done < len(p) {
		n, err := call(int(f.Fd()), p[done:], off+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil && n == 0:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return done, fmt.Errorf("%s %d bytes at %d of %s: %w", verb, len(p), off, f.Name(), err)
		}
		done += n
	}
	return done, nil
}

// Sync is fdatasync: size and allocation of the file never change, other metadata does not
// matter. A device without a volatile cache has what it was given already.
func (d *Disk) Sync() error {
	if d.writeThrough {
		return nil
	}
	for {
		err := unix.Fdatasync(int(d.f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("fdatasync %s: %w", d.f.Name(), err)
		}
	}
}
