package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

const (
	// aliveEvery and its three tries are how soon a daemon is missed that has vanished without a word.
	aliveEvery = 5 * time.Second
	// closeLimit bounds the farewell.
	closeLimit = 2 * time.Second
	// queue is how many events may wait to be taken.
	queue = 256
	// featureKeepAlive asks whether the daemon knows keepalive and tells it that its client does.
	featureKeepAlive = 10
)

// Ways to prove who one is. Only the first two need nothing but the connection.
const (
	authNone       = 0
	authWithPolkit = 2
)

var (
	// ErrAuth means that the daemon wants a password.
	ErrAuth = errors.New("the daemon asks for SASL; give the manager a client certificate, or set auth_unix_rw = \"none\" for its socket")
	// ErrEvents is why a connection ended whose events were not taken.
	ErrEvents = errors.New("events came faster than they were taken")
)

// Conn is an open connection to the QEMU driver of a daemon.
type Conn struct {
	*rpc.Conn
	events chan Event
	uri    string
}

// Options of a connection.
type Options struct {
	// Events tells whether Events is to be filled.
	Events bool
	// URI is the driver to open; "" tries both that a daemon may have.
	URI string
}

// Open says hello on nc, which it owns from now on, also after an error.
func Open(ctx context.Context, nc net.Conn, o Options) (*Conn, error) {
	c := &Conn{uri: o.URI}
	opts := rpc.Options{KeepAlive: aliveEvery}
	if o.Events {
		c.events = make(chan Event, queue)
		opts.Event = c.take
	}
	c.Conn = rpc.New(nc, opts)
	if err := c.hello(ctx, o.Events); err != nil {
		return nil, errors.Join(err, c.Conn.Close())
	}
	return c, nil
}

// URI is the driver that was opened.
func (c *Conn) URI() string { return c.uri }

// hello goes through what a client says before its first call.
func (c *Conn) hello(ctx context.Context, events bool) error {
	if err := c.authenticate(ctx); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	if err := c.do(ctx, connectSupportsFeature, func(e *xdr.Encoder) { e.Int32(featureKeepAlive) }, func(d *xdr.Decoder) { d.Int32() }); err != nil {
		return fmt.Errorf("agree on keepalive: %w", err)
	}
	if err := c.open(ctx); err != nil {
		return fmt.Errorf("open the QEMU driver: %w", err)
	}
	if events {
		return c.subscribe(ctx)
	}
	return nil
}

// authenticate answers the daemon's question who we are. Certificates and sockets have answered it mostly.
func (c *Conn) authenticate(ctx context.Context) error {
	var kinds []int32
	err := c.do(ctx, authList, nil, func(d *xdr.Decoder) {
		for range d.Len(maxAuth, 4) {
			kinds = append(kinds, d.Int32())
		}
	})
	switch {
	case err != nil:
		return err
	case len(kinds) == 0 || slices.Contains(kinds, authNone):
		return nil
	case slices.Contains(kinds, authWithPolkit):
		return c.do(ctx, authPolkit, nil, func(d *xdr.Decoder) { d.Int32() })
	}
	return ErrAuth
}

// open chooses the driver. A daemon is the machine's or a user's, and refuses the other's name.
func (c *Conn) open(ctx context.Context) (err error) {
	tries := []string{c.uri}
	if c.uri == "" {
		tries = []string{"qemu:///system", "qemu:///session"}
	}
	for _, uri := range tries {
		refused := c.do(ctx, connectOpen, func(e *xdr.Encoder) { e.Optional(uri); e.Uint32(0) }, nil)
		if refused == nil {
			c.uri = uri
			return nil
		}
		if err == nil {
			err = refused
		}
		if _, ok := errors.AsType[*rpc.Error](refused); !ok {
			break
		}
	}
	return err
}

// Close says goodbye and ends the connection. What the daemon ties to the connection ends before Close returns, if the
// daemon answers in time.
func (c *Conn) Close() error {
	if c.Err() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		_ = c.do(ctx, connectClose, nil, nil)
	}
	return c.Conn.Close()
}

// do calls p with what args writes and gives the answer to result. Either may be nil for nothing.
func (c *Conn) do(ctx context.Context, p procedure, args func(*xdr.Encoder), result func(*xdr.Decoder)) error {
	return c.call(ctx, p.id(), args, result)
}

func (c *Conn) call(ctx context.Context, p rpc.Proc, args func(*xdr.Encoder), result func(*xdr.Decoder)) error {
	var e xdr.Encoder
	if args != nil {
		args(&e)
	}
	answer, err := c.Call(ctx, p, e.Bytes())
	if err != nil {
		return err
	}
	d := xdr.NewDecoder(answer)
	if result != nil {
		result(d)
	}
	if err := d.End(); err != nil {
		return fmt.Errorf("answer to procedure %d: %w: %w", p.Number, rpc.ErrProtocol, err)
	}
	return nil
}

// text calls p, whose answer is one string.
func (c *Conn) text(ctx context.Context, p procedure, args func(*xdr.Encoder)) (s string, err error) {
	err = c.do(ctx, p, args, func(d *xdr.Decoder) { s = d.String(maxText) })
	return s, err
}
