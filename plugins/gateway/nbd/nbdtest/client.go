package nbdtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

var be = binary.BigEndian

// Options choose what a client negotiates.
type Options struct {
	Structured bool          // structured replies
	Meta       bool          // all contexts that the server offers; implies Structured
	TLS        *tls.Config   // upgrade first
	OldName    bool          // EXPORT_NAME instead of GO
	Timeout    time.Duration // for every read from the server, 0 means 10 s
}

// Client is one connection. Send and Recv pipeline; the other methods do one request and must
// not be mixed with requests in flight. One goroutine may send while another receives, and a
// client that pipelines much must do so: a server may stop reading until its replies are read.
type Client struct {
	Size           uint64
	Flags          uint16
	Min, Pref, Max uint32

	contexts map[uint32]string // by the id that replies name them with

	conn    net.Conn
	rd      *bufio.Reader
	opts    Options
	cookie  uint64
	mu      sync.Mutex
	pending map[uint64]*partial
}

// partial is a request whose reply is not complete.
type partial struct {
	req     Request
	reply   Reply
	covered uint64 // bytes of the chunks
}

// Request is one command.
type Request struct {
	Cmd    uint16
	Flags  uint16
	Off    uint64
	Len    uint32
	Data   []byte // of a WRITE, whose Len it sets
	Cookie uint64 // set by Send
}

// Reply is a complete answer.
type Reply struct {
	Cookie  uint64
	Request Request // what it answers
	Err     error   // Errno of the server
	Message string
	Data    []byte              // of a READ
	Holes   int                 // chunks that were holes
	Chunks  int                 // content chunks
	Extents []Extent            // of base:allocation
	States  map[string][]Extent // of every context
}

// Extent is a descriptor of BLOCK_STATUS.
type Extent struct{ Len, Flags uint32 }

// Errno is an error value of the protocol.
type Errno uint32

func (e Errno) Error() string { return fmt.Sprintf("server answered errno %d", uint32(e)) }

// Dial connects and negotiates.
func Dial(ctx context.Context, network, addr, export string, o Options) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c, err := New(conn, export, o)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("negotiate with %s: %w", addr, err)
	}
	return c, nil
}

// New negotiates on a connection, which then belongs to the client.
func New(conn net.Conn, export string, o Options) (*Client, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	o.Structured = o.Structured || o.Meta
	c := &Client{conn: conn, rd: bufio.NewReaderSize(conn, 64<<10), opts: o, pending: make(map[uint64]*partial), Max: 32 << 20}
	hello, err := c.read(18)
	if err != nil {
		return nil, err
	}
	if string(hello[:16]) != "NBDMAGICIHAVEOPT" || be.Uint16(hello[16:])&3 != 3 {
		return nil, fmt.Errorf("greeting %x is not fixed newstyle", hello)
	}
	if err := c.write(be.AppendUint32(nil, 3)); err != nil {
		return nil, err
	}
	return c, c.haggle(export)
}

// Send sends a request without waiting and returns its cookie.
func (c *Client) Send(r Request) (uint64, error) {
	if r.Cmd == 1 && r.Data != nil {
		r.Len = uint32(len(r.Data))
	}
	c.cookie++
	r.Cookie = c.cookie
	c.mu.Lock()
	c.pending[r.Cookie] = &partial{req: r, reply: Reply{Cookie: r.Cookie, Request: r}}
	c.mu.Unlock()
	return r.Cookie, c.write(append(Header(r), r.Data...))
}

// Header encodes the 28 bytes of a request.
func Header(r Request) []byte {
	b := be.AppendUint32(make([]byte, 0, 28+len(r.Data)), 0x25609513)
	b = be.AppendUint16(b, r.Flags)
	b = be.AppendUint16(b, r.Cmd)
	b = be.AppendUint64(b, r.Cookie)
	b = be.AppendUint64(b, r.Off)
	return be.AppendUint32(b, r.Len)
}

// Recv returns the next complete reply. An error means that the connection is of no more use.
func (c *Client) Recv() (Reply, error) {
	for {
		h, err := c.read(16)
		if err != nil {
			return Reply{}, err
		}
		switch be.Uint32(h) {
		case 0x67446698:
			return c.simple(be.Uint64(h[8:]), be.Uint32(h[4:]))
		case 0x668e33ef:
			p, done, err := c.chunk(h)
			if err != nil {
				return Reply{}, err
			}
			if done {
				return c.finish(p)
			}
		default:
			return Reply{}, fmt.Errorf("reply has magic %x", h[:4])
		}
	}
}

func (c *Client) simple(cookie uint64, errno uint32) (Reply, error) {
	p := c.waiting(cookie)
	if p == nil {
		return Reply{}, fmt.Errorf("reply to unknown cookie %d", cookie)
	}
	if p.req.Cmd == 0 && c.opts.Structured {
		return Reply{}, errors.New("simple reply to READ after structured replies were negotiated")
	}
	if errno != 0 {
		p.reply.Err = Errno(errno)
	} else if p.req.Cmd == 0 {
		var err error
		if p.reply.Data, err = c.read(int(p.req.Len)); err != nil {
			return Reply{}, err
		}
		p.reply.Chunks = 1
	}
	return c.finish(p)
}

// waiting returns the request of a cookie that has no complete reply yet.
func (c *Client) waiting(cookie uint64) *partial {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending[cookie]
}

// chunk takes one structured chunk, whose first 16 bytes are h, into its request.
func (c *Client) chunk(h []byte) (*partial, bool, error) {
	n, err := c.read(4)
	if err != nil {
		return nil, false, err
	}
	flags, kind, size := be.Uint16(h[4:]), be.Uint16(h[6:]), int(be.Uint32(n))
	p := c.waiting(be.Uint64(h[8:]))
	if p == nil || !c.opts.Structured || size > 33<<20 {
		return nil, false, fmt.Errorf("chunk %x was not asked for", h)
	}
	body, err := c.read(size)
	if err != nil {
		return nil, false, err
	}
	if err := p.take(c.contexts, kind, body); err != nil {
		return nil, false, err
	}
	return p, flags&1 != 0, nil
}

func (p *partial) take(contexts map[uint32]string, kind uint16, body []byte) error {
	r := &p.reply
	switch {
	case kind == 0 && len(body) == 0:
	case kind == 1 && len(body) > 8 || kind == 2 && len(body) == 12:
		off, n := be.Uint64(body), uint64(len(body)-8)
		if kind == 2 {
			n = uint64(be.Uint32(body[8:]))
			r.Holes++
		}
		if r.Data == nil {
			r.Data = make([]byte, p.req.Len)
		}
		if n == 0 || off < p.req.Off || off+n > p.req.Off+uint64(p.req.Len) {
			return fmt.Errorf("chunk of %d bytes at %d is outside the request", n, off)
		}
		if kind == 1 {
			copy(r.Data[off-p.req.Off:], body[8:])
		}
		r.Chunks++
		p.covered += n
	case kind == 5 && len(body) >= 12 && len(body)%8 == 4:
		return r.status(contexts[be.Uint32(body)], body[4:], p.req)
	case kind&(1<<15) != 0 && len(body) >= 6 && be.Uint32(body) != 0:
		r.Err = Errno(be.Uint32(body))
		r.Message = string(body[6:])
	default:
		return fmt.Errorf("chunk of type %d with %d bytes", kind, len(body))
	}
	return nil
}

// status takes the description of a range in one context.
func (r *Reply) status(context string, b []byte, req Request) error {
	if _, twice := r.States[context]; context == "" || twice {
		return fmt.Errorf("status in context %q was not asked for", context)
	}
	var list []Extent
	var sum uint64
	for ; len(b) > 0; b = b[8:] {
		e := Extent{be.Uint32(b), be.Uint32(b[4:])}
		sum += uint64(e.Len)
		list = append(list, e)
	}
	if sum > uint64(req.Len) || req.Flags&8 != 0 && len(list) != 1 {
		return fmt.Errorf("%d extents cover %d bytes of a request for %d", len(list), sum, req.Len)
	}
	if r.States == nil {
		r.States = make(map[string][]Extent)
	}
	r.States[context] = list
	if context == "base:allocation" {
		r.Extents = list
	}
	return nil
}

func (c *Client) finish(p *partial) (Reply, error) {
	c.mu.Lock()
	delete(c.pending, p.req.Cookie)
	c.mu.Unlock()
	if p.req.Cmd == 0 && p.reply.Err == nil && p.req.Len > 0 && p.reply.Data == nil {
		return Reply{}, errors.New("READ succeeded without data")
	}
	if p.covered > 0 && p.covered != uint64(p.req.Len) && p.reply.Err == nil {
		return Reply{}, fmt.Errorf("READ of %d bytes was answered with %d", p.req.Len, p.covered)
	}
	return p.reply, nil
}

// Do sends one request and waits for its reply. The error is the server's Errno or that of
// the connection.
func (c *Client) Do(r Request) (Reply, error) {
	cookie, err := c.Send(r)
	if err != nil {
		return Reply{}, err
	}
	reply, err := c.Recv()
	if err != nil {
		return Reply{}, err
	}
	if reply.Cookie != cookie {
		return Reply{}, fmt.Errorf("reply to %d while waiting for %d", reply.Cookie, cookie)
	}
	return reply, reply.Err
}

// Read returns n bytes from off.
func (c *Client) Read(off uint64, n uint32) ([]byte, error) {
	r, err := c.Do(Request{Cmd: 0, Off: off, Len: n})
	return r.Data, err
}

// Write writes p at off.
func (c *Client) Write(off uint64, p []byte, fua bool) error {
	var f uint16
	if fua {
		f = 1
	}
	_, err := c.Do(Request{Cmd: 1, Flags: f, Off: off, Data: p})
	return err
}

// Flush makes acknowledged writes durable.
func (c *Client) Flush() error {
	_, err := c.Do(Request{Cmd: 3})
	return err
}

// Trim discards a range.
func (c *Client) Trim(off uint64, n uint32) error {
	_, err := c.Do(Request{Cmd: 4, Off: off, Len: n})
	return err
}

// Close disconnects as the protocol asks and waits for the server to close.
func (c *Client) Close() error {
	defer c.conn.Close()
	if err := c.write(Header(Request{Cmd: 2})); err != nil {
		return err
	}
	switch _, err := c.read(1); {
	case err == nil:
		return errors.New("after disconnect: the server sent more")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("after disconnect: %w", err)
	}
	return nil
}

// Abandon drops the connection.
func (c *Client) Abandon() { c.conn.Close() }

func (c *Client) write(b []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(c.opts.Timeout))
	_, err := c.conn.Write(b)
	return err
}

func (c *Client) read(n int) ([]byte, error) {
	c.conn.SetReadDeadline(time.Now().Add(c.opts.Timeout))
	b := make([]byte, n)
	_, err := io.ReadFull(c.rd, b)
	return b, err
}
