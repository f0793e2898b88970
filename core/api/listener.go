package api

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ratchetos/ratchet/core/unixsocket"
)

// limited bounds the open connections of a listener. Unlike netutil.LimitListener its
// connections lead back to the socket, which withPeer asks for the peer's credentials.
type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func limit(ln net.Listener, n int) *limited {
	return &limited{Listener: ln, slots: make(chan struct{}, n), done: make(chan struct{})}
}

// Accept waits for a free slot first: connections over the limit stay in the kernel's queue.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotConn{Conn: conn, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type slotConn struct {
	net.Conn
	free func()
}

func (c *slotConn) Close() error {
	err := c.Conn.Close()
	c.free()
	return err
}

// Listen opens an API listener named as in the configuration: "tcp::8443", "tcp:10.0.0.1:8443"
// or "unix:/run/ratchet/api.sock". A unix socket is made for its owner and, when gid is not
// negative, for that group.
func Listen(address string, gid int) (net.Listener, error) {
	network, where, ok := strings.Cut(address, ":")
	switch {
	case ok && network == "tcp":
		ln, err := net.Listen("tcp", where)
		if err != nil {
			return nil, fmt.Errorf("listen for API: %w", err)
		}
		return ln, nil
	case ok && network == "unix" && filepath.IsAbs(where):
		return listenUnix(where, gid)
	}
	return nil, fmt.Errorf("listen for API on %q: write tcp:ADDRESS:PORT, tcp::PORT or unix:/PATH", address)
}

func listenUnix(path string, gid int) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of API socket: %w", err)
	}
	// What a killed predecessor left behind.
	if err := unixsocket.RemoveStale(path); err != nil {
		return nil, fmt.Errorf("API: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for API: %w", err)
	}
	mode := fs.FileMode(0o600)
	if gid >= 0 {
		mode = 0o660
		err = os.Chown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("set permissions of API socket: %w", err)
	}
	return ln, nil
}
