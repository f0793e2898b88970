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
	// MaxMemory bounds the data of requests that wait, in bytes over all connections of one Serve, 0 means 256 MiB. While
	// there is too little, clients that do not take their replies, or do not send the data of a WRITE, lose their connection.
	MaxMemory int
	// TakeReplies is the time in which they must take or send something, 0 means 30 s.
	TakeReplies time.Duration
	// MaxConns bounds the connections of one Serve, 0 means 1,024. More are closed at once.
	MaxConns int
	// HandshakeTimeout bounds the time from accept to the first request, 0 means 10 s.
	HandshakeTimeout time.Duration
	// Grace is how long Serve waits for requests in flight when it is stopped, 0 means 10 s.
	Grace time.Duration
	// Patience is how long it then waits for a connection on which nothing moves, 0 means 2 s: while it waits nobody is
	// served, and the client can repeat what was not answered.
	Patience time.Duration
}

// Serve accepts connections from l until ctx ends or l fails. Then it closes l, lets the
// requests in flight finish, sends their replies, and returns when the last connection is
// gone; what is not finished after Grace, or does not move for Patience, is cancelled and not answered. It returns nil when
// ctx ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r := &run{server: s, conns: make(map[*link]struct{}), crews: make(map[*Stats]*crew), log: s.Log}
	r.memory = newMemory(orDefault(s.MaxMemory, allParkedBytes), r.press)
	r.sessions = make(map[*session]progress)
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
		r.closeAll() // first: what is cancelled would be answered with an error, and no client repeats that
		cancel()
	})
	defer grace.Stop()
	r.hurry(orDefault(s.Patience, 2*time.Second))
	r.wg.Wait()
	r.relax()
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
	conns map[*link]struct{}
	crews map[*Stats]*crew // by whole export
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
		k := newLink(c)
		if !r.add(k) {
			r.log.Warn("too many NBD connections, closing the new one", "remote", k.remote)
			k.end()
			continue
		}
		r.wg.Go(func() { r.connection(hard, k, c) })
	}
}

func (r *run) add(k *link) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.conns) >= orDefault(r.server.MaxConns, 1024) {
		return false
	}
	r.conns[k] = struct{}{}
	return true
}

// wake makes every reader look at stopping: a read that waits for the next request fails.
func (r *run) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.conns {
		k.interrupt()
	}
}

func (r *run) closeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.conns {
		k.end()
	}
}

func (r *run) remove(k *link) {
	k.end()
	r.mu.Lock()
	delete(r.conns, k)
	r.mu.Unlock()
}

// connection serves one client from greeting to close.
func (r *run) connection(hard context.Context, k *link, c net.Conn) {
	defer r.remove(k)
	log := r.log.With("remote", k.remote.String())
	c.SetDeadline(time.Now().Add(orDefault(r.server.HandshakeTimeout, 10*time.Second)))
	nc, rd, h, err := negotiate(hard, c, r.server.Exports, r.server.TLS, r.server.TLSOptional)
	if err != nil {
		log.Debug("NBD handshake ended", "err", err)
		return
	}
	c.SetDeadline(time.Time{})
	r.transmit(hard, k, nc, rd, h)
}

// transmit serves requests until the connection ends or is handed on. nc is the link's, or TLS over it.
func (r *run) transmit(hard context.Context, k *link, nc net.Conn, rd *reader, h *handshake) {
	log := r.log.With("remote", k.remote.String(), "export", h.chosen.Name)
	stats := h.chosen.Stats()
	stats.connections.Add(1)
	defer stats.connections.Add(-1)
	log.Info("NBD client connected", "structured", h.structured, "tls", h.secure)
	s := newSession(k, nc, rd, h, &r.stopping, r.memory)
	defer rd.spill.close()
	crew := r.crew(hard, h.chosen)
	defer r.without(crew, h.chosen)
	s.crew = crew
	if admit := h.chosen.Admit; admit != nil {
		s.admission = admit(k.end)
		defer s.admission.Close()
	}
	r.watch(s)
	err := s.run(hard)
	defer r.unwatch(s)
	if r.handOn(k, s, h, err) {
		log.Info("NBD client handed on")
		return
	}
	if h.secure {
		nc.Close() // says goodbye in TLS; the deferred end only drops the connection
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
