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
	direct int   // descriptor for reads
	shown  frame // what ReadAt serves
	ahead  frame // the window after it, once reads come in order
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
		err = errors.Join(d.shown.allocate(), d.ahead.allocate())
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
	errs := []error{d.shown.free(), d.ahead.free()}
	if d.direct >= 0 {
		errs = append(errs, unix.Close(d.direct))
	}
	return errors.Join(append(errs, d.f.Close())...)
}

// WriteAt implements io.WriterAt.
func (d *Device) WriteAt(b []byte, at int64) (int, error) {
	d.forget()
	n, err := d.f.WriteAt(b, at)
	if n >= window {
		// The medium starts now, while the next piece is fetched; Sync then has little left to wait for. Advice only.
		_ = unix.SyncFileRange(int(d.f.Fd()), at, int64(n), unix.SYNC_FILE_RANGE_WRITE)
	}
	return n, err
}

// Sync makes what was written durable and lets the cache go.
func (d *Device) Sync() error {
	d.forget()
	if err := unix.Fdatasync(int(d.f.Fd())); err != nil {
		return fmt.Errorf("sync slot: %w", err)
	}
	// Advice only: with O_DIRECT the kernel does it anyway.
	_ = unix.Fadvise(d.direct, 0, 0, unix.FADV_DONTNEED)
	return nil
}

// ReadAt implements io.ReaderAt. It is one goroutine's: it keeps the window that it read last, and while that one is
// looked at the medium already reads the next.
func (d *Device) ReadAt(b []byte, at int64) (int, error) {
	var n int
	for n < len(b) {
		pos := at + int64(n)
		if pos < 0 || pos >= d.size {
			return n, io.EOF
		}
		if !d.shown.holds(pos) {
			if err := d.show(pos / window * window); err != nil {
				return n, err
			}
			if !d.shown.holds(pos) {
				return n, io.ErrUnexpectedEOF
			}
		}
		n += copy(b[n:], d.shown.buf[pos-d.shown.at:d.shown.n])
	}
	return n, nil
}

// show makes the window at the offset the one that is served.
func (d *Device) show(at int64) error {
	inOrder := d.shown.n > 0 && at == d.shown.at+window
	d.ahead.wait()
	if d.ahead.at == at && d.ahead.n > 0 {
		d.shown, d.ahead = d.ahead, d.shown
	} else if d.shown.fill(d.direct, at); d.shown.err != nil {
		return fmt.Errorf("read slot at %d: %w", at, d.shown.err)
	}
	if next := at + window; inOrder && next < d.size {
		d.ahead.start(d.direct, next)
	}
	return nil
}

// forget drops what was read, because the medium is about to hold something else.
func (d *Device) forget() {
	d.ahead.wait()
	d.shown.n, d.ahead.n = 0, 0
}
