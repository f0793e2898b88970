package nbd

import (
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// readerSize holds a burst of small requests: 32 writes of 4 KiB with their headers.
const readerSize = 32 * (requestLen + 4096)

// readerFirst is what a connection begins with: one such write. It gets the rest when it has filled this.
const readerFirst = 2 * (requestLen + 4096)

// reader buffers what arrives. It differs from bufio.Reader in that a header or a small
// payload is used in place, and that a large payload goes straight to where it belongs.
type reader struct {
	src  io.Reader
	buf  []byte
	r, w int
	// burst is set when a read has filled the buffer: the client sends more than that at once.
	burst bool
	// late is asked when the time for reading is over; it may give some more.
	late func() bool
	// moved is told of each read of a large payload.
	moved *motion
	// spill comes before what the source has.
	spill spill
}

// read is that of the spill, then that of the source.
func (rd *reader) read(p []byte) (int, error) {
	if rd.spill.n > 0 {
		return rd.spill.read(p)
	}
	n, err := rd.src.Read(p)
	if err != nil && rd.late != nil && errors.Is(err, os.ErrDeadlineExceeded) && rd.late() {
		err = nil
	}
	return n, err
}

func (rd *reader) readPayload(p []byte) (int, error) {
	n, err := rd.read(p)
	if n > 0 && rd.moved != nil {
		rd.moved.step()
	}
	return n, err
}

// buffered is how many bytes can be had without reading from the connection.
func (rd *reader) buffered() int { return rd.w - rd.r + rd.spill.n }

// tail returns a copy of the last n bytes of what is buffered, or of all.
func (rd *reader) tail(n int) []byte {
	t := rd.spill.tail(n)
	return slices.Concat(last(rd.buf[rd.r:rd.w], n-len(t)), t)
}

// next returns the next n bytes, n at most the size of the buffer. They are valid until the
// next call of any method. An end of the stream before the first byte is io.EOF.
func (rd *reader) next(n int) ([]byte, error) {
	if rd.w-rd.r < n {
		if rd.burst {
			rd.burst = false
			rd.grow(readerSize)
		}
		if err := rd.fill(n); err != nil {
			return nil, err
		}
	}
	p := rd.buf[rd.r : rd.r+n]
	rd.r += n
	return p, nil
}

func (rd *reader) fill(n int) error {
	if rd.r > 0 {
		rd.w = copy(rd.buf, rd.buf[rd.r:rd.w])
		rd.r = 0
	}
	for empty := 0; rd.w < n; {
		k, err := rd.read(rd.buf[rd.w:])
		rd.w += k
		rd.burst = rd.burst || rd.w == len(rd.buf) && len(rd.buf) >= readerFirst
		if err != nil && rd.w < n {
			if errors.Is(err, io.EOF) && rd.w > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		// A source that returns nothing and no error would spin here.
		if k == 0 {
			if empty++; empty == 8 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

// readFull fills p.
func (rd *reader) readFull(p []byte) error {
	k := copy(p, rd.buf[rd.r:rd.w])
	rd.r += k
	if k == len(p) {
		return nil
	}
	_, err := io.ReadFull(readFunc(rd.readPayload), p[k:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// receive adds what a socket holds to the buffer and never waits. It reports false when the source has to be read in the
// usual way: at its end, after an error, and when there may be more than there is room for.
func (rd *reader) receive(fd int) bool {
	if rd.r > 0 {
		rd.w = copy(rd.buf, rd.buf[rd.r:rd.w])
		rd.r = 0
	}
	n, err := receive(fd, rd.buf[rd.w:])
	rd.w += n
	return rd.w < len(rd.buf) && (n > 0 || errors.Is(err, unix.EAGAIN))
}

// consume drops n bytes of what is buffered.
func (rd *reader) consume(n int) { rd.r += n }

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// grow makes room for larger bursts; what is buffered stays.
func (rd *reader) grow(size int) {
	if size > len(rd.buf) {
		buf := make([]byte, size)
		rd.w = copy(buf, rd.buf[rd.r:rd.w])
		rd.r, rd.buf = 0, buf
	}
}
