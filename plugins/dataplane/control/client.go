package control

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Pauses between attempts to join: short at first, because a restarted plugin is back within milliseconds.
const (
	firstPause   = 5 * time.Millisecond
	lastPause    = time.Second
	refusedPause = 30 * time.Second
	// helloEvery is below the time after which firewalls forget a UDP flow.
	helloEvery = 10 * time.Second
	// steady is how long a session must stand for the next pause to be short again.
	steady = 2 * time.Second
	// maxPending bounds calls, and exchanges, that wait for a reply.
	maxPending = 4096
)

var (
	// ErrNotJoined says that there is no session at the moment. Run makes a new one.
	ErrNotJoined = errors.New("not joined to the box")
	// ErrRefused says that the certificate is not, or no longer, the host's valid one.
	ErrRefused = errors.New("the box refuses this certificate")
)

// CallError is the answer of a handler that failed.
type CallError struct {
	Method, Message string
}

func (e *CallError) Error() string { return fmt.Sprintf("call %s: %s", e.Method, e.Message) }

// ClientOptions configure a Client; Address and Identity are required.
type ClientOptions struct {
	// Address is the box's, host:port, for both protocols.
	Address  string
	Identity *Identity
	Log      *slog.Logger
	// Dial and ListenPacket are package net's own when nil.
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	ListenPacket func(network string) (net.PacketConn, error)
}

// Client is a host's end at one box.
type Client struct {
	o        ClientOptions
	handlers [maxKind + 1]func(payload []byte)
	onJoin   []func()
	packets  atomic.Pointer[net.PacketConn]

	mu        sync.Mutex
	joined    *joined       // nil while there is no connection
	last      *joined       // whose keys datagrams use; outlives its connection
	changed   chan struct{} // closed and replaced when joined changes
	hinted    time.Time     // when a hint was last followed
	exchanges map[uint64]chan []byte
}

// joined is one session on the host's side.
type joined struct {
	conn *tls.Conn
	keys *sealer
	sent atomic.Uint64
	peer netip.AddrPort

	window window // of the reader of datagrams alone

	write sync.Mutex

	mu      sync.Mutex
	nextID  uint32
	pending map[uint32]chan frame // nil once the connection has ended
}

// NewClient makes a client; it does nothing until Run.
func NewClient(o ClientOptions) *Client {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: joinTimeout}).DialContext
	}
	if o.ListenPacket == nil {
		o.ListenPacket = func(network string) (net.PacketConn, error) { return net.ListenPacket(network, ":0") }
	}
	return &Client{o: o, changed: make(chan struct{}), exchanges: map[uint64]chan []byte{}}
}

// HandleDatagram takes what the box sends unasked; before Run. It must not block.
func (c *Client) HandleDatagram(kind uint8, h func(payload []byte)) {
	if kind <= maxKind {
		c.handlers[kind] = h
	}
}

// OnJoin is called, in a goroutine of its own, whenever a session stands; before Run.
func (c *Client) OnJoin(f func()) { c.onJoin = append(c.onJoin, f) }

// Box is the box's address.
func (c *Client) Box() string { return c.o.Address }

// Joined says whether a session stands.
func (c *Client) Joined() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joined != nil
}

// Run joins the box, and joins again whenever the connection ends, until ctx does.
func (c *Client) Run(ctx context.Context) error {
	packets, err := c.o.ListenPacket("udp")
	if err != nil {
		return fmt.Errorf("open datagram socket: %w", err)
	}
	c.packets.Store(&packets)
	var reading sync.WaitGroup
	reading.Go(func() { c.receive(packets) })
	defer reading.Wait()
	defer packets.Close()
	pause := firstPause
	quiet := false
	for ctx.Err() == nil {
		began := time.Now()
		j, r, err := c.join(ctx)
		if err == nil {
			quiet = false
			err = c.stand(ctx, j, r)
		}
		if ctx.Err() != nil {
			break
		}
		if !quiet { // once, not at every attempt
			c.o.Log.Warn("no session with the box; trying again", "box", c.o.Address, "err", err)
			quiet = true
		}
		switch {
		case errors.Is(err, ErrRefused):
			pause = refusedPause
		case time.Since(began) >= steady:
			pause = firstPause
		}
		// Half of it at random: hosts that lost one box together do not come back in step.
		sleep(ctx, pause/2+rand.N(pause/2))
		pause = min(2*pause, lastPause)
	}
	return nil
}

// join dials and waits to be welcomed.
func (c *Client) join(ctx context.Context) (*joined, *bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	raw, err := c.o.Dial(ctx, "tcp", c.o.Address)
	if err != nil {
		return nil, nil, err
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3})
	}
	conn := tls.Client(raw, c.o.Identity.ClientTLS(serverName))
	j, r, err := c.greet(ctx, conn)
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	return j, r, nil
}

func (c *Client) greet(ctx context.Context, conn *tls.Conn) (*joined, *bufio.Reader, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("shake hands: %w", err)
	}
	conn.SetDeadline(time.Now().Add(joinTimeout))
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	r := bufio.NewReader(conn)
	f, err := readFrame(r)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("wait to be welcomed: %w", err)
	case f.kind == frameRefused:
		return nil, nil, fmt.Errorf("%w: %s", ErrRefused, f.body)
	case f.kind != frameWelcome:
		return nil, nil, fmt.Errorf("%w: kind %d instead of a welcome", errFrame, f.kind)
	}
	conn.SetDeadline(time.Time{})
	keys, err := newSealer(conn.ConnectionState(), false)
	if err != nil {
		return nil, nil, err
	}
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return nil, nil, fmt.Errorf("take the box's address: %w", err)
	}
	return &joined{conn: conn, keys: keys, peer: peer, pending: map[uint32]chan frame{}}, r, nil
}

// stand keeps a session until its connection ends.
func (c *Client) stand(ctx context.Context, j *joined, r *bufio.Reader) error {
	c.o.Log.Info("joined", "box", c.o.Address)
	c.set(j)
	stop := context.AfterFunc(ctx, func() { j.conn.Close() })
	defer stop()
	greeting := make(chan struct{})
	var greeter sync.WaitGroup
	greeter.Go(func() { c.greetOn(j, greeting) })
	defer greeter.Wait()
	defer close(greeting)
	for _, f := range c.onJoin {
		go f()
	}
	var err error
	for err == nil {
		var f frame
		if f, err = readFrame(r); err == nil {
			j.answered(f)
		}
	}
	j.conn.Close()
	c.set(nil)
	j.end()
	return err
}

// greetOn tells the box where the host's datagram socket is, so that it can send unasked: at once, and again now and
// then, because a datagram may be lost and a firewall on the way forgets.
func (c *Client) greetOn(j *joined, done <-chan struct{}) {
	again := time.NewTicker(helloEvery)
	defer again.Stop()
	for {
		_ = c.send(j, kindHello, j.sent.Add(1), nil) // the next one may come through
		select {
		case <-done:
			return
		case <-again.C:
		}
	}
}

func (c *Client) set(j *joined) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined = j
	if j != nil {
		c.last = j
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// current is the session that stands and what is closed when that changes.
func (c *Client) current() (*joined, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joined, c.changed
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
