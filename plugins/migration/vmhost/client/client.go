package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// dialLimit bounds connecting and the handshake.
const dialLimit = 5 * time.Second

// ErrExists means that the host has a VM of that name, or the destination of another move of it.
var ErrExists = errors.New("the host has a VM of that name already")

// Client of one host.
type Client struct {
	dial   func(ctx context.Context) (net.Conn, error)
	http   *http.Client
	epoch  atomic.Uint64
	server string
}

// New makes a client of the host at "HOST:PORT", whose certificate config checks. Nothing is sent yet.
func New(address string, config *tls.Config) *Client {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: dialLimit, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3,
	}}, Config: config}
	return client(address, func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialLimit)
		defer cancel()
		return d.DialContext(ctx, "tcp", address)
	})
}

// Local makes a client over the host's own socket.
func Local(socket string) *Client {
	return client(socket, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	})
}

func client(address string, dial func(ctx context.Context) (net.Conn, error)) *Client {
	t := &http.Transport{MaxIdleConnsPerHost: 4, MaxConnsPerHost: 64, IdleConnTimeout: time.Minute, DisableCompression: true}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	return &Client{dial: dial, http: &http.Client{Transport: t}, server: address}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// SetEpoch raises the manager's epoch, which goes with every request from then on.
func (c *Client) SetEpoch(epoch uint64) {
	for {
		old := c.epoch.Load()
		if old >= epoch || c.epoch.CompareAndSwap(old, epoch) {
			return
		}
	}
}

type fixedEpoch struct{}

// WithEpoch sends requests made with ctx under an epoch of their own: one that an order was given under stays with it.
func WithEpoch(ctx context.Context, epoch uint64) context.Context {
	return context.WithValue(ctx, fixedEpoch{}, epoch)
}

func (c *Client) header(ctx context.Context, h http.Header) {
	epoch, ok := ctx.Value(fixedEpoch{}).(uint64)
	if !ok {
		epoch = c.epoch.Load()
	}
	if epoch > 0 {
		h.Set(EpochHeader, strconv.FormatUint(epoch, 10))
	}
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		r = bytes.NewReader(b)
	}
	// The scheme is http for the transport's sake: dial has done the handshake.
	req, err := http.NewRequestWithContext(ctx, method, "http://vmhost"+path, r)
	if err != nil {
		return nil, err
	}
	c.header(ctx, req.Header)
	return req, nil
}

// call sends one request; out may be nil.
func (c *Client) call(ctx context.Context, method, path string, body, out any) error {
	ctx, patience := c.await(ctx)
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return patience.over(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	switch {
	case err != nil:
		return patience.over(fmt.Errorf("read the answer: %w", err))
	case len(b) > MaxBody:
		return fmt.Errorf("the answer of host at %s is longer than %d bytes", c.server, MaxBody)
	case resp.StatusCode != http.StatusOK:
		return problem(resp.StatusCode, b)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode answer of host at %s: %w", c.server, err)
	}
	return nil
}

func problem(status int, body []byte) error {
	var p Problem
	if json.Unmarshal(body, &p) != nil || p.Message == "" {
		if status == http.StatusNotFound { // what it knows and has not, it says so of
			return errors.New("the agent on the host does not know this request: it is older than the box; update it")
		}
		return fmt.Errorf("the host answered %s", http.StatusText(status))
	}
	for kind, is := range map[Kind]error{Fenced: hypervisor.ErrFenced, NoSuchVM: hypervisor.ErrNoSuchVM, Exists: ErrExists} {
		if p.Kind == kind {
			return fmt.Errorf("%s: %w", strings.TrimSuffix(p.Message, ": "+is.Error()), is)
		}
	}
	return errors.New(p.Message)
}

func at(vm, verb string) string { return "/v1/vms/" + url.PathEscape(vm) + "/" + verb }

// Host tells what the host is and can hold.
func (c *Client) Host(ctx context.Context) (h Host, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/host", nil, &h)
	return h, err
}

// Load tells what the host has to do now.
func (c *Client) Load(ctx context.Context) (l load.Host, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/load", nil, &l)
	return l, err
}

// VMs lists what the host has.
func (c *Client) VMs(ctx context.Context) (list []VM, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/vms", nil, &list)
	return list, err
}

// Shape is that of a VM as it is now.
func (c *Client) Shape(ctx context.Context, vm string) (s model.Shape, err error) {
	err = c.call(ctx, http.MethodGet, at(vm, "shape"), nil, &s)
	return s, err
}

// Resident is how much of its memory a VM's guest has ever touched and not left zero, in bytes.
func (c *Client) Resident(ctx context.Context, vm string) (n uint64, err error) {
	err = c.call(ctx, http.MethodGet, at(vm, "resident"), nil, &n)
	return n, err
}

// StoodStill tells whether a VM that is gone was seen to stand still from the switch of a move to its end.
func (c *Client) StoodStill(ctx context.Context, vm string) (yes bool, err error) {
	err = c.call(ctx, http.MethodGet, at(vm, "stood-still"), nil, &yes)
	return yes, err
}

// Start starts a VM.
func (c *Client) Start(ctx context.Context, s Start) error {
	return c.call(ctx, http.MethodPost, at(s.Shape.VM, "start"), s, nil)
}

// Settle makes the destination of a move a VM that lives there.
func (c *Client) Settle(ctx context.Context, vm, move string) error {
	return c.call(ctx, http.MethodPost, at(vm, "settle"), Settle{move}, nil)
}

// End ends QEMU, at once, and forgets the VM.
func (c *Client) End(ctx context.Context, vm, move string) error {
	return c.call(ctx, http.MethodPost, at(vm, "end"), End{move}, nil)
}

// Plug adds a device.
func (c *Client) Plug(ctx context.Context, vm string, d hypervisor.Plug) error {
	return c.call(ctx, http.MethodPost, at(vm, "plug"), d, nil)
}

// Unplug takes a device away and returns once the guest has let go of it.
func (c *Client) Unplug(ctx context.Context, vm, id string) error {
	return c.call(ctx, http.MethodPost, at(vm, "unplug"), Unplug{id}, nil)
}

// Do runs a QMP command.
func (c *Client) Do(ctx context.Context, vm, command string, args any) (Reply, error) {
	cmd := Command{Execute: command}
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return Reply{}, fmt.Errorf("encode %s: %w", command, err)
		}
		cmd.Arguments = b
	}
	var r Reply
	err := c.call(ctx, http.MethodPost, at(vm, "qmp"), cmd, &r)
	return r, err
}

// Events calls ready once it is sure to hear all that happens from then on, and each for every event, until the
// connection or ctx ends.
func (c *Client) Events(ctx context.Context, ready func(), each func(Event)) error {
	ctx, patience := c.await(ctx)
	req, err := c.request(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask for events: %w", patience.over(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return problem(resp.StatusCode, b)
	}
	ready()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, MaxBody)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue // sent to see whether we are there
		}
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("decode event of host at %s: %w", c.server, err)
		}
		each(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("events of host at %s: %w", c.server, err)
	}
	return fmt.Errorf("events of host at %s: %w", c.server, io.ErrUnexpectedEOF)
}
