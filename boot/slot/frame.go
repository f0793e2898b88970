package slot

import (
	"errors"

	"golang.org/x/sys/unix"
)

// frame is the memory of one window of a Device, and what of the medium is in it.
type frame struct {
	buf  []byte // page-aligned
	at   int64
	n    int // bytes at the front of buf; 0 holds nothing
	err  error
	busy chan struct{} // closed when the read that start began has ended; nil without one
}

// allocate gets the memory. The kernel wants it aligned for O_DIRECT; a mapping is.
func (f *frame) allocate() (err error) {
	f.buf, err = unix.Mmap(-1, 0, window, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return err
}

func (f *frame) free() error {
	f.wait()
	if f.buf == nil {
		return nil
	}
	buf := f.buf
	f.buf, f.n = nil, 0
	return unix.Munmap(buf)
}

func (f *frame) holds(pos int64) bool { return pos >= f.at && pos < f.at+int64(f.n) }

// fill reads the window at the offset; a failure is left in err.
func (f *frame) fill(fd int, at int64) {
	f.at = at
	for {
		f.n, f.err = unix.Pread(fd, f.buf, at)
		if f.err == nil {
			return
		}
		f.n = 0
		if !errors.Is(f.err, unix.EINTR) {
			return
		}
	}
}

// start fills the frame in the background; nothing else of it may be used until wait has returned.
func (f *frame) start(fd int, at int64) {
	f.busy = make(chan struct{})
	go func() {
		defer close(f.busy)
		f.fill(fd, at)
	}()
}

func (f *frame) wait() {
	if f.busy != nil {
		<-f.busy
		f.busy = nil
	}
}
