package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// maxBuffered bounds what a stream holds for its reader. The protocol has no window: a client either reads or stops
// reading the connection, which would silence all others on it.
const maxBuffered = 1 << 20

// ErrSlow is why a stream ended whose reader fell behind.
var ErrSlow = errors.New("stream was not read fast enough")

// Stream is bytes in both directions between the caller and something at the daemon. It is a net.Conn.
type Stream struct {
	conn   *Conn
	proc   Proc
	serial uint32

	mu     sync.Mutex
	buf    []byte
	err    error // why no more comes; io.EOF at its end
	closed bool
	wake   chan struct{} // holds one: something of the above has changed
	until  time.Time     // for Read
}

var _ net.Conn = (*Stream)(nil)

// Open calls a procedure that opens a stream.
func (c *Conn) Open(ctx context.Context, p Proc, args []byte) (*Stream, error) {
	s := &Stream{conn: c, proc: p, wake: make(chan struct{}, 1)}
	answer := make(chan message, 1)
	serial, err := c.register(answer, s)
	if err != nil {
		return nil, err
	}
	defer c.forget(serial)
	if err := c.write(message{header: header{proc: p, kind: typeCall, serial: serial}, payload: args}); err != nil {
		s.drop()
		return nil, err
	}
	select {
	case m := <-answer:
		if _, err := m.result(p); err != nil {
			s.drop()
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		// The daemon may have opened it: it must be told.
		_ = s.Close()
		return nil, ctx.Err()
	case <-c.done:
		return nil, c.Err()
	}
}

// Read takes what has arrived. After the end that the other side declared it returns io.EOF.
func (s *Stream) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		n := copy(p, s.buf)
		s.buf = s.buf[n:]
		err, until := s.err, s.until
		s.mu.Unlock()
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		if err := s.wait(until); err != nil {
			return 0, err
		}
	}
}

// wait returns when something has changed or the deadline has passed.
func (s *Stream) wait(until time.Time) error {
	if until.IsZero() {
		<-s.wake
		return nil
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-s.wake:
		return nil
	case <-t.C:
		return fmt.Errorf("read stream: %w", os.ErrDeadlineExceeded)
	}
}

// Write sends p in packets.
func (s *Stream) Write(p []byte) (int, error) {
	sent := 0
	for len(p) > 0 {
		s.mu.Lock()
		err := s.err
		s.mu.Unlock()
		if err != nil {
			return sent, fmt.Errorf("write stream: %w", errors.Join(err, net.ErrClosed))
		}
		n := min(len(p), maxStream)
		if err := s.send(statusContinue, p[:n]); err != nil {
			return sent, err
		}
		sent += n
		p = p[n:]
	}
	return sent, nil
}

func (s *Stream) send(status int32, payload []byte) error {
	return s.conn.write(message{header{s.proc, typeStream, s.serial, status}, payload})
}

// Close ends the stream at both sides. The daemon's word on it is not waited for.
func (s *Stream) Close() error {
	s.mu.Lock()
	// The daemon knows of each end but the two that are decided here.
	known, closed := s.err != nil && !errors.Is(s.err, ErrSlow), s.closed
	s.closed = true
	if s.err == nil {
		s.err = net.ErrClosed
	}
	s.mu.Unlock()
	s.signal()
	if closed {
		return nil
	}
	s.drop()
	if known {
		return nil
	}
	// An abort, not a finish: a finish is answered only once the daemon has passed on all that was written, which a
	// guest that does not read can put off for ever.
	return s.send(statusError, abortMessage)
}

// abortMessage is the error, empty but for its form, that an abort carries.
var abortMessage = make([]byte, 11*4)

// packet takes a message of the stream. The reading goroutine calls it.
func (s *Stream) packet(m message) {
	switch {
	case m.status == statusError:
		s.fail(fmt.Errorf("stream: %w", parseError(m.payload)))
	case m.status == statusOK || len(m.payload) == 0:
		s.fail(io.EOF) // the end is an empty packet or a finish, by the daemon's version
	default:
		s.mu.Lock()
		full := len(s.buf)+len(m.payload) > maxBuffered
		if !full && s.err == nil {
			s.buf = append(s.buf, m.payload...)
		}
		s.mu.Unlock()
		if full {
			s.fail(ErrSlow)
			return
		}
		s.signal()
	}
}

// fail ends the stream for its reader, who gets what has arrived before.
func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// drop takes the stream off its connection.
func (s *Stream) drop() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	delete(s.conn.streams, s.serial)
}

// SetReadDeadline bounds Read; a Read under way sees it.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	s.until = t
	s.mu.Unlock()
	s.signal()
	return nil
}

// SetWriteDeadline does nothing: each packet has the connection's own bound.
func (s *Stream) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (s *Stream) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// LocalAddr is the connection's.
func (s *Stream) LocalAddr() net.Addr { return s.conn.net.LocalAddr() }

// RemoteAddr is the connection's.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.net.RemoteAddr() }
