// Package controltest makes boxes and hosts that talk over the real control channel, for tests.
package controltest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// wait bounds what a test waits for.
const wait = 20 * time.Second

// Options of a box; the zero value is right on loopback.
type Options struct {
	// Listen opens both sockets of one port number. It is called again by Restart, with the address of the first
	// time, "" at first; nil is loopback in the test's own namespace.
	Listen func(address string) (net.Listener, *net.UDPConn, error)
	Log    *slog.Logger
	// State is the box's; nil makes one in memory.
	State control.State
}

// Box is the control channel's end of a box.
type Box struct {
	t         testing.TB
	o         Options
	authority *control.Authority
	address   string

	server *control.Server
	cancel context.CancelFunc
	done   chan struct{}
}

// Server makes a box that listens; its handlers are set on Server before Serve.
func Server(t testing.TB, o Options) *Box {
	t.Helper()
	if o.Listen == nil {
		o.Listen = Loopback
	}
	if o.State == nil {
		o.State = NewMemoryState()
	}
	b := &Box{t: t, o: o}
	a, err := control.OpenAuthority(t.Context(), o.State)
	if err != nil {
		t.Fatal(err)
	}
	b.authority = a
	b.listen()
	t.Cleanup(b.Stop)
	return b
}

// Loopback opens both sockets on one port of 127.0.0.1.
func Loopback(address string) (net.Listener, *net.UDPConn, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	for range 16 { // another process may have the same number for datagrams
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, nil, err
		}
		at := l.Addr().(*net.TCPAddr)
		p, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP, Port: at.Port})
		if err == nil {
			return l, p, nil
		}
		l.Close()
	}
	return nil, nil, errors.New("no port is free for both protocols")
}

func (b *Box) listen() {
	b.t.Helper()
	l, p, err := b.o.Listen(b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.address = l.Addr().String()
	b.server, err = control.NewServer(control.ServerOptions{Authority: b.authority, Listener: l, Packets: p, Log: b.o.Log})
	if err != nil {
		b.t.Fatal(err)
	}
}

// Server is the present one; Restart makes another.
func (b *Box) Server() *control.Server { return b.server }

// Authority is the box's.
func (b *Box) Authority() *control.Authority { return b.authority }

// Address is where the box listens.
func (b *Box) Address() string { return b.address }

// Serve begins to serve.
func (b *Box) Serve() {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.done = cancel, make(chan struct{})
	go func() {
		defer close(b.done)
		if err := b.server.Serve(ctx); err != nil {
			b.t.Errorf("serve: %v", err)
		}
	}()
}

// Stop ends the server, as the end of its process would.
func (b *Box) Stop() {
	if b.cancel == nil {
		return
	}
	b.cancel()
	<-b.done
	b.cancel = nil
}

// Restart ends the server and makes a new one, which listens at the same address and does not serve yet.
func (b *Box) Restart() {
	b.t.Helper()
	b.Stop()
	b.listen()
}

// File enrols a host and returns its identity file.
func (b *Box) File(name string) []byte {
	b.t.Helper()
	pem, err := b.authority.Enroll(b.t.Context(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return pem
}

// Identity enrols a host.
func (b *Box) Identity(name string) *control.Identity {
	b.t.Helper()
	id, err := control.ParseIdentity(b.File(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

// Client makes a host's client that is not running yet, so that handlers can be set.
func (b *Box) Client(name string, o control.ClientOptions) *control.Client {
	b.t.Helper()
	if o.Address == "" {
		o.Address = b.address
	}
	if o.Identity == nil {
		o.Identity = b.Identity(name)
	}
	return control.NewClient(o)
}

// Run runs a client until the test ends and waits until it has joined.
func (b *Box) Run(c *control.Client) {
	b.t.Helper()
	joined := make(chan struct{}, 1)
	c.OnJoin(func() {
		select {
		case joined <- struct{}{}:
		default:
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			b.t.Errorf("run client: %v", err)
		}
	}()
	b.t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-joined:
	case <-time.After(wait):
		b.t.Fatalf("not joined after %v", wait)
	}
}

// MemoryState is a control.State in memory.
type MemoryState struct {
	mu sync.Mutex
	m  map[string][]byte
}

var _ control.State = (*MemoryState)(nil)

// NewMemoryState makes an empty one.
func NewMemoryState() *MemoryState { return &MemoryState{m: map[string][]byte{}} }

// Get implements control.State.
func (s *MemoryState) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[key], nil
}

// Put implements control.State.
func (s *MemoryState) Put(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[key] = append([]byte{}, value...)
	return nil
}

// Delete implements control.State.
func (s *MemoryState) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, key)
	return nil
}

// List implements control.State.
func (s *MemoryState) List(_ context.Context, prefix string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for k := range s.m {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	return keys, nil
}
