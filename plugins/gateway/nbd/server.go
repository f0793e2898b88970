package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves exports. Fields must not change after the first Serve; all but Exports may be
// left zero.
type Server struct {
	Exports Exports
	// TLS, when set, makes the server speak TLS only (FORCEDTLS). Clients are verified as it says: with
	// RequireAndVerifyClientCert only those whose certificate comes from ClientCAs are served.
	TLS *tls.Config
	// TLSOptional lets clients in the clear in as well (the protocol's NOTLS and TLS side by side).
	TLSOptional bool
	Log         *slog.Logger
	// Adopt are connections of another process, to go on with. Serve takes them over before it accepts others.
	Adopt []Handed
	// HandOn, when set, is offered every connection that is between two requests when Serve has been stopped, once
	// all that was asked is answered. True means that the connection is the callee's now; others are closed. It is
	// called from many goroutines.
	HandOn func(Handed) bool
	// MaxMemory bounds the data of requests that wait, in bytes over all connections, 0 means 256 MiB. While there is too
	// little, clients that do not take their replies lose their connection.
	MaxMemory int
	// TakeReplies is the time that they have, 0 means 30 s.
	TakeReplies time.Duration
	// MaxConns bounds the connections of one Serve, 0 means 1,024. More are closed at once.
	MaxConns int
	// HandshakeTimeout bounds the time from accept to the first request, 0 means 10 s.
	HandshakeTimeout time.Duration
	// Grace is how long Serve waits for requests in flight when it is stopped, 0 means 10 s.
	Grace time.Duration
}

// Serve accepts connections from l until ctx ends or l fails. Then it closes l, lets the
// requests in flight finish, sends their replies, and returns when the last connection is
// gone; what is not finished after Grace is cancelled. It returns nil when ctx ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r := &run{server: s, conns: make(map[net.Conn]struct{}), log: s.Log}
	r.memory = newMemory(orDefault(s.MaxMemory, allParkedBytes), r.press)
	r.sessions = make(map[*session]sending)
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	stop := context.AfterFunc(ctx, func() {
		r.stopping.Store(true)
		l.Close()
	})
	defer stop()
	for _, g := range s.Adopt {
		r.adopt(hard, g)
	}
	err := r.accept(ctx, hard, l)
	l.Close()
	r.stopping.Store(true)
	r.wake()
	grace := time.AfterFunc(orDefault(s.Grace, 10*time.Second), func() {
		cancel()
		r.closeAll()
	})
	defer grace.Stop()
	r.wg.Wait()
	return err
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// run is one call of Serve.
type run struct {
	server   *Server
	log      *slog.Logger
	stopping atomic.Bool
	wg       sync.WaitGroup
	memory   *memory

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	pressure
}

func (r *run) accept(ctx, hard context.Context, l net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		var ne net.Error
		if err != nil && errors.As(err, &ne) && ne.Timeout() || isExhausted(err) {
			// Out of descriptors or memory: existing connections go on and may give some back.
			r.log.Warn("accept NBD connection", "err", err, "retry_in", pause)
			if !sleep(ctx, pause) {
				return nil
			}
			pause = min(2*pause, time.Second)
			continue
		}
		if err != nil {
			return fmt.Errorf("accept NBD connection: %w", err)
		}
		pause = 5 * time.Millisecond
		if !r.add(c) {
			r.log.Warn("too many NBD connections, closing the new one", "remote", c.RemoteAddr())
			c.Close()
			continue
		}
		r.wg.Go(func() { r.connection(hard, c) })
	}
}

func (r *run) add(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) >= orDefault(r.server.MaxConns, 1024) {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

// wake makes every reader look at stopping: a read that waits for the next request fails.
func (r *run) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.SetReadDeadline(time.Unix(1, 0)) // long past
	}
}

func (r *run) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}

func (r *run) remove(c net.Conn) {
	c.Close()
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
}

// connection serves one client from greeting to close.
func (r *run) connection(hard context.Context, c net.Conn) {
	defer r.remove(c)
	log := r.log.With("remote", c.RemoteAddr().String())
	c.SetDeadline(time.Now().Add(orDefault(r.server.HandshakeTimeout, 10*time.Second)))
	nc, rd, h, err := negotiate(hard, c, r.server.Exports, r.server.TLS, r.server.TLSOptional)
	if err != nil {
		log.Debug("NBD handshake ended", "err", err)
		return
	}
	c.SetDeadline(time.Time{})
	r.transmit(hard, c, nc, rd, h)
}

// transmit serves requests until the connection ends or is handed on. nc is c, or TLS over it.
func (r *run) transmit(hard context.Context, c, nc net.Conn, rd *reader, h *handshake) {
	log := r.log.With("remote", c.RemoteAddr().String(), "export", h.chosen.Name)
	stats := h.chosen.Stats()
	stats.connections.Add(1)
	defer stats.connections.Add(-1)
	log.Info("NBD client connected", "structured", h.structured, "tls", h.secure)
	s := newSession(nc, rd, h, &r.stopping, r.memory)
	if admit := h.chosen.Admit; admit != nil {
		s.admission = admit(func() { c.Close() })
		defer s.admission.Close()
	}
	r.watch(s)
	err := s.run(hard)
	r.unwatch(s)
	if r.handOn(c, s, h, err) {
		log.Info("NBD client handed on")
		return
	}
	if nc != c {
		nc.Close() // says goodbye in TLS; the deferred close only drops the connection
	}
	log.Info("NBD client gone", "reason", err)
}

// sleep waits for d unless ctx ends before.
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
