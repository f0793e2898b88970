package slot

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// window is what Device reads at once, at multiples of it.
const window = 1 << 20

// Device is the partition of a slot. Writes go through the page cache and are durable after Sync; reads come from the
// medium, past the cache, so that what was written is what is compared.
type Device struct {
	f      *os.File
	size   int64
	direct int    // descriptor for reads
	buf    []byte // page-aligned, holds [at, at+have)
	at     int64
	have   int
}

var (
	_ io.ReaderAt = (*Device)(nil)
	_ io.WriterAt = (*Device)(nil)
)

// OpenDevice opens a partition by its node. Media that cannot be read directly (a file on some file systems, in
// tests) are read after their cache was dropped.
func OpenDevice(node string, write bool) (*Device, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(node, mode, 0)
	if err != nil {
		return nil, fmt.Errorf("open slot: %w", err)
	}
	d := &Device{f: f, direct: -1}
	if d.size, err = f.Seek(0, io.SeekEnd); err == nil {
		d.direct, err = unix.Open(node, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	}
	if errors.Is(err, unix.EINVAL) {
		d.direct, err = unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		// The kernel wants the memory aligned too; a mapping is.
		d.buf, err = unix.Mmap(-1, 0, window, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	}
	if err != nil {
		return nil, fmt.Errorf("open slot %s: %w", node, errors.Join(err, d.Close()))
	}
	return d, nil
}

// Size is the partition's, in bytes.
func (d *Device) Size() int64 { return d.size }

// Close implements io.Closer.
func (d *Device) Close() error {
	var errs []error
	if d.direct >= 0 {
		errs = append(errs, unix.Close(d.direct))
	}
	if d.buf != nil {
		errs = append(errs, unix.Munmap(d.buf))
		d.buf = nil
	}
	return errors.Join(append(errs, d.f.Close())...)
}

// WriteAt implements io.WriterAt.
func (d *Device) WriteAt(b []byte, at int64) (int, error) {
	d.have = 0
	n, err := d.f.WriteAt(b, at)
	if n >= window {
		// The medium starts now, while the next piece is fetched; Sync then has little left to wait for. Advice only.
		_ = unix.SyncFileRange(int(d.f.Fd()), at, int64(n), unix.SYNC_FILE_RANGE_WRITE)
	}
	return n, err
}

// Sync makes what was written durable and lets the cache go.
func (d *Device) Sync() error {
	d.have = 0
	if err := unix.Fdatasync(int(d.f.Fd())); err != nil {
		return fmt.Errorf("sync slot: %w", err)
	}
	// Advice only: with O_DIRECT the kernel does it anyway.
	_ = unix.Fadvise(d.direct, 0, 0, unix.FADV_DONTNEED)
	return nil
}

// ReadAt implements io.ReaderAt. It is one goroutine's: it keeps the window that it read last.
func (d *Device) ReadAt(b []byte, at int64) (int, error) {
	var n int
	for n < len(b) {
		pos := at + int64(n)
		if pos < 0 || pos >= d.size {
			return n, io.EOF
		}
		if pos < d.at || pos >= d.at+int64(d.have) {
			if err := d.fill(pos / window * window); err != nil {
				return n, err
			}
			if pos >= d.at+int64(d.have) {
				return n, io.ErrUnexpectedEOF
			}
		}
		n += copy(b[n:], d.buf[pos-d.at:d.have])
	}
	return n, nil
}

func (d *Device) fill(at int64) error {
	d.have = 0
	for {
		n, err := unix.Pread(d.direct, d.buf, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read slot at %d: %w", at, err)
		}
		d.at, d.have = at, n
		return nil
	}
}
