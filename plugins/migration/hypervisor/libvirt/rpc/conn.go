package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// writeLimit bounds the sending of one frame.
	writeLimit = 15 * time.Second
	// maxPending bounds calls and streams in flight. The daemon itself works on five calls of a client at a time.
	maxPending = 256
)

var (
	// ErrClosed is why a connection ended that was closed here.
	ErrClosed = errors.New("connection closed")
	// ErrBusy means that more calls are waiting than a connection may have.
	ErrBusy = errors.New("too many calls are waiting for the daemon")
)

// Options of a connection.
type Options struct {
	// Event is called with each event, by the reading goroutine: it must not block. Nil drops events.
	Event func(p Proc, payload []byte)
	// KeepAlive is how often the daemon is asked for a sign of life; after three without, the connection ends. 0 never
	// asks: a daemon that was not told by the caller that its client knows keepalive would take the question for garbage.
	KeepAlive time.Duration
}

// Conn is a connection to a daemon.
type Conn struct {
	net  net.Conn
	opts Options

	wmu sync.Mutex // held while a frame is written

	mu      sync.Mutex
	serial  uint32
	pending map[uint32]chan message // calls in flight; each channel holds one
	streams map[uint32]*Stream
	alive   bool // something was heard since the last question
	err     error

	done chan struct{} // closed after err is set
}

// New makes a connection of nc, which it owns from now on.
func New(nc net.Conn, opts Options) *Conn {
	c := &Conn{
		net: nc, opts: opts, pending: map[uint32]chan message{}, streams: map[uint32]*Stream{},
		done: make(chan struct{}),
	}
	go c.read()
	if opts.KeepAlive > 0 {
		go c.keepAlive()
	}
	return c
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is why it ended, nil while it is open.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection. Calls in flight fail with ErrClosed.
func (c *Conn) Close() error {
	c.End(ErrClosed)
	return nil
}

// End ends the connection because of err; the first reason stays.
func (c *Conn) End(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	streams := c.streams
	c.streams = nil
	close(c.done)
	c.mu.Unlock()
	for _, s := range streams {
		s.fail(err)
	}
	_ = c.net.Close() // whoever reads or writes is freed by it
}

// Call sends args to a procedure and returns its answer. An answer that is an error is an *Error.
func (c *Conn) Call(ctx context.Context, p Proc, args []byte) ([]byte, error) {
	answer, sent := make(chan message, 1), time.Now()
	serial, err := c.register(answer, nil)
	if err != nil {
		return nil, err
	}
	defer c.forget(serial)
	if err := c.write(message{header: header{proc: p, kind: typeCall, serial: serial}, payload: args}); err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		return m.result(p)
	case <-ctx.Done():
		return nil, unanswered(ctx.Err(), time.Since(sent))
	case <-c.done:
		return nil, c.Err()
	}
}

// unanswered says what to look at when a daemon that is alive has not answered in the time that a call had.
func unanswered(err error, waited time.Duration) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("libvirt has not answered for %v; see its log, and virsh domjobinfo for a job that holds the VM: %w", waited.Round(100*time.Millisecond), err)
}

// result is the payload of a reply to p, or its error.
func (m message) result(p Proc) ([]byte, error) {
	switch {
	case m.proc != p:
		return nil, fmt.Errorf("answer to procedure %d of program %#x instead of %d: %w", m.proc.Number, m.proc.Program, p.Number, ErrProtocol)
	case m.status == statusError:
		return nil, parseError(m.payload)
	case m.status != statusOK:
		return nil, fmt.Errorf("answer of status %d: %w", m.status, ErrProtocol)
	}
	return m.payload, nil
}

// register takes a serial for a call, and for the stream that it opens if there is one.
func (c *Conn) register(answer chan message, s *Stream) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if len(c.pending)+len(c.streams) >= maxPending {
		return 0, ErrBusy
	}
	for ok := true; ok || c.serial == 0; { // 0 belongs to events; a serial of 2³² calls ago may still be in use
		c.serial++
		_, ok = c.pending[c.serial]
		if !ok {
			_, ok = c.streams[c.serial]
		}
	}
	c.pending[c.serial] = answer
	if s != nil {
		s.serial = c.serial
		c.streams[c.serial] = s
	}
	return c.serial, nil
}

// forget ends a call. An answer that comes later is dropped.
func (c *Conn) forget(serial uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, serial)
}

// write sends a frame. One that was sent in part leaves the connection of no use.
func (c *Conn) write(m message) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.net.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := c.net.Write(m.encode()); err != nil {
		if ended := c.Err(); ended != nil {
			return ended
		}
		err = fmt.Errorf("send to the daemon: %w", err)
		c.End(err)
		return err
	}
	return nil
}

// read takes frames until the connection ends.
func (c *Conn) read() {
	r := bufio.NewReaderSize(c.net, 32<<10)
	for {
		m, err := readMessage(r)
		if err == nil {
			err = c.deliver(m)
		}
		if err != nil {
			c.End(fmt.Errorf("receive from the daemon: %w", err))
			return
		}
	}
}

// deliver gives a message to whom it belongs.
func (c *Conn) deliver(m message) error {
	c.mu.Lock()
	c.alive = true
	answer, stream := c.pending[m.serial], c.streams[m.serial]
	if m.kind == typeReply {
		delete(c.pending, m.serial) // a second answer is nobody's
	}
	c.mu.Unlock()
	switch {
	case m.proc.Program == keepAliveProgram:
		return c.pong(m)
	case m.kind == typeMessage:
		if c.opts.Event != nil {
			c.opts.Event(m.proc, m.payload)
		}
	case m.kind == typeReply && answer != nil:
		answer <- m // has room: one answer for a call
	case m.kind == typeStream && stream != nil:
		stream.packet(m)
	}
	return nil
}
