package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// eventQueue is how many events may wait to be received.
const eventQueue = 256

var (
	// ErrBusy means that the server accepted the connection and sent no greeting: most likely
	// another client has the monitor.
	ErrBusy = errors.New("no greeting: another client may hold this monitor")
	// ErrSlow means that events were not received as fast as they came.
	ErrSlow = errors.New("events were not received in time")
)

// Options tune a client; nil is fine.
type Options struct {
	// Transcript gets every line, sent is true for ours. It must not keep the line.
	Transcript func(sent bool, line []byte)
}

// Client is one monitor connection.
type Client struct {
	conn    net.Conn
	opts    Options
	version string
	oob     bool // urgent commands go out of band

	write sync.Mutex // held while a line is sent

	mu      sync.Mutex
	nextID  uint64
	pending map[uint64]chan message // buffered 1
	err     error                   // why the reader ended

	events chan Event
	done   chan struct{} // closed when the reader has ended
}

// Dial connects to network ("tcp" or "unix") and address, waits for the greeting and enters
// command mode, all within ctx.
func Dial(ctx context.Context, network, address string, opts *Options) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connect to QMP monitor: %w", err)
	}
	c, err := New(ctx, conn, opts)
	if err != nil {
		return nil, fmt.Errorf("greet QMP monitor %s: %w", address, err)
	}
	return c, nil
}

// New runs the protocol on a connection, which then belongs to the client, also on failure.
func New(ctx context.Context, conn net.Conn, opts *Options) (*Client, error) {
	c := &Client{conn: conn, pending: make(map[uint64]chan message), events: make(chan Event, eventQueue), done: make(chan struct{})}
	if opts != nil {
		c.opts = *opts
	}
	lines := bufio.NewReaderSize(conn, 64<<10)
	// The end of ctx closes the connection only until the greeting is done.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err := c.greet(lines)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	go c.read(lines)
	var enable any
	if c.oob {
		enable = map[string][]string{"enable": {"oob"}}
	}
	if err := c.Do(ctx, "qmp_capabilities", enable, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) greet(lines *bufio.Reader) error {
	m, err := c.next(lines)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	if m.greeting == nil {
		return errors.New("first message is not a QMP greeting")
	}
	c.oob = slices.Contains(m.greeting.Capabilities, "oob")
	v := m.greeting.Version.QEMU
	c.version = fmt.Sprintf("QEMU %d.%d.%d", v.Major, v.Minor, v.Micro)
	return nil
}

// Version is the product and version that the server greeted with.
func (c *Client) Version() string { return c.version }

// Events are delivered in order; the channel is closed when the connection ends.
func (c *Client) Events() <-chan Event { return c.events }

// Err is why the connection ended, nil while it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and returns when nothing of the client runs any more. QEMU goes on.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Do runs a command and stores its return value in out, unless that is nil. A refusal by QEMU
// is an *Error. When ctx ends the command may still be carried out.
func (c *Client) Do(ctx context.Context, command string, args, out any) error {
	return c.do(ctx, command, args, out, nil)
}

// do is Do with file descriptors that go with the command, if any.
func (c *Client) do(ctx context.Context, command string, args, out any, rights []byte) error {
	reply := make(chan message, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return fmt.Errorf("%s: %w", command, c.err)
	}
	c.nextID++
	id := c.nextID
	c.pending[id] = reply
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()
	if err := c.send(ctx, command, args, id, rights); err != nil {
		return err
	}
	select {
	case m := <-reply:
		return m.result(command, out)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, ctx.Err())
	case <-c.done:
		select {
		case m := <-reply: // it came just before the end
			return m.result(command, out)
		default:
			return fmt.Errorf("%s: %w", command, c.Err())
		}
	}
}

func (m message) result(command string, out any) error {
	if m.failed != nil {
		m.failed.Command = command
		return m.failed
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(m.ok, out); err != nil {
		return fmt.Errorf("decode reply to %s: %w", command, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, command string, args any, id uint64, rights []byte) error {
	line, err := encode(command, args, id, c.oob)
	if err != nil {
		return err
	}
	c.write.Lock()
	defer c.write.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if c.opts.Transcript != nil {
		c.opts.Transcript(true, line)
	}
	deadline, _ := ctx.Deadline() // none is the zero time, which lifts the deadline
	c.conn.SetWriteDeadline(deadline)
	if len(rights) > 0 {
		err = writeRights(c.conn, line, rights)
	} else {
		_, err = c.conn.Write(line)
	}
	if err != nil {
		// Half a line may have left: nothing sent after it would be understood.
		c.conn.Close()
		<-c.done // the reader may know better why
		return fmt.Errorf("send %s: %w: %w", command, err, c.Err())
	}
	return nil
}

// read distributes what comes in until the connection ends.
func (c *Client) read(lines *bufio.Reader) {
	defer close(c.done)
	defer close(c.events)
	var err error
	for err == nil {
		var m message
		if m, err = c.next(lines); err == nil {
			err = c.deliver(m)
		}
	}
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("QMP connection ended: %w", err)
}

func (c *Client) deliver(m message) error {
	switch {
	case m.event != nil:
		if m.event.Time.IsZero() {
			m.event.Time = time.Now()
		}
		select {
		case c.events <- *m.event:
			return nil
		default:
			return ErrSlow
		}
	case m.greeting != nil:
		return errors.New("second greeting")
	case !m.hasID:
		// QEMU answers what it could not parse without an id; the stream is of no more use.
		if m.failed != nil {
			return fmt.Errorf("server could not read us: %s", m.failed.Desc)
		}
		return errors.New("reply without an id")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.id > c.nextID {
		return fmt.Errorf("reply to %d, which was never sent", m.id)
	}
	// A missing entry is a caller that gave up, or a second reply; both are dropped.
	if reply := c.pending[m.id]; reply != nil {
		delete(c.pending, m.id)
		reply <- m
	}
	return nil
}

// next reads one line, of at most MaxLine bytes.
func (c *Client) next(lines *bufio.Reader) (message, error) {
	line, err := readLine(lines)
	if err != nil {
		return message{}, err
	}
	if c.opts.Transcript != nil {
		c.opts.Transcript(false, line)
	}
	return parse(line)
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxLine {
			return nil, fmt.Errorf("message is longer than %d bytes", MaxLine)
		}
		switch {
		case err == nil && line == nil:
			return part, nil // valid until the next read, like every line here
		case err == nil:
			return append(line, part...), nil
		case errors.Is(err, bufio.ErrBufferFull):
			line = append(line, part...)
		case errors.Is(err, io.EOF) && len(line)+len(part) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}
