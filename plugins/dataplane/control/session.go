package control

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// session is one joined host on the box's side.
type session struct {
	host  string
	conn  *tls.Conn
	keys  *sealer
	stats *stats

	sent      atomic.Uint64 // number of the last datagram to the host
	heard     atomic.Int64  // Server.now at its last proven word
	connected atomic.Bool

	mu      sync.Mutex
	window  window
	address netip.AddrPort // of its newest datagram

	write    sync.Mutex // one frame at a time
	calls    sync.Mutex
	inFlight map[uint32]context.CancelFunc
}

func (ses *session) from() netip.AddrPort {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	return ses.address
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, config *tls.Config) error {
	joining := make(chan struct{}, maxJoining)
	pause := firstPause
	for {
		conn, err := s.o.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // out of descriptors, or the peer is gone again
			if !sleep(ctx, pause) {
				return nil
			}
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		select {
		case joining <- struct{}{}:
		case <-ctx.Done():
			conn.Close()
			return nil
		}
		s.work.Go(func() {
			conn := tls.Server(conn, config)
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			ses, err := s.join(ctx, conn)
			<-joining
			if err != nil {
				s.o.Log.Debug("host does not join", "from", conn.RemoteAddr().String(), "err", err)
				conn.Close()
				return
			}
			s.converse(ctx, ses)
		})
	}
}

// join shakes hands and registers the session.
func (s *Server) join(ctx context.Context, conn *tls.Conn) (*session, error) {
	conn.SetDeadline(time.Now().Add(joinTimeout))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	state := conn.ConnectionState()
	cert := state.PeerCertificates[0]
	ses := &session{host: cert.Subject.CommonName, conn: conn, inFlight: map[uint32]context.CancelFunc{}}
	if !s.o.Authority.Valid(cert) {
		_ = ses.reply(frame{kind: frameRefused, body: []byte("revoked, or enrolled again: use the newest file")})
		return nil, fmt.Errorf("host %s: %w", ses.host, ErrRefused)
	}
	keys, err := newSealer(state, true)
	if err != nil {
		return nil, err
	}
	ses.keys = keys
	ses.heard.Store(s.now())
	if !s.add(ses) {
		return nil, errors.New("key id is taken")
	}
	// Revoked between the check and the registration: hangUp has not seen the session.
	if !s.o.Authority.Valid(cert) {
		s.hangUp(ses.host)
		return nil, fmt.Errorf("host %s: %w", ses.host, ErrRefused)
	}
	if err := ses.reply(frame{kind: frameWelcome}); err != nil {
		ses.connected.Store(false)
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return ses, nil
}

// converse answers a host's calls until its connection ends.
func (s *Server) converse(ctx context.Context, ses *session) {
	s.o.Log.Info("host joined", "host", ses.host, "from", ses.conn.RemoteAddr().String())
	s.tell(ses.host, true)
	ctx, cancel := context.WithCancel(ctx)
	err := s.answer(ctx, ses)
	cancel()
	ses.conn.Close()
	ses.connected.Store(false)
	s.o.Log.Info("host's connection ended", "host", ses.host, "why", err)
	s.mu.RLock()
	replaced := s.byHost[ses.host] != nil && s.byHost[ses.host] != ses
	s.mu.RUnlock()
	if !replaced {
		s.tell(ses.host, false)
	}
}

func (s *Server) answer(ctx context.Context, ses *session) error {
	r := bufio.NewReader(ses.conn)
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		ses.heard.Store(s.now())
		switch f.kind {
		case frameCall:
			s.begin(ctx, ses, f)
		case frameCancel:
			ses.end(f.id)
		default:
			return fmt.Errorf("%w: kind %d from a host", errFrame, f.kind)
		}
	}
}

// begin carries a call out beside the others.
func (s *Server) begin(ctx context.Context, ses *session, f frame) {
	handle := s.calls[f.method]
	if handle == nil {
		_ = ses.reply(frame{id: f.id, kind: frameError, body: fmt.Appendf(nil, "the box has no method %q; it may be older than this agent", f.method)})
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	if !ses.keep(f.id, cancel) {
		cancel()
		_ = ses.reply(frame{id: f.id, kind: frameError, body: fmt.Appendf(nil, "at most %d calls at a time", maxInFlight)})
		return
	}
	ses.stats.calls.Add(1)
	s.work.Go(func() {
		answer := frame{id: f.id, kind: frameReply}
		defer cancel()
		body, err := handle(ctx, ses.host, f.body)
		switch {
		case err != nil:
			answer.kind, answer.body = frameError, []byte(err.Error())
		case len(body) > MaxMessage:
			answer.kind, answer.body = frameError, fmt.Appendf(nil, "a reply of %d bytes is too long", len(body))
		default:
			answer.body = body
		}
		wanted := ctx.Err() == nil
		ses.end(f.id)
		if wanted && ses.reply(answer) != nil {
			ses.conn.Close() // the reader ends the session
		}
	})
}

// keep notes a call that is being worked on, unless there are too many.
func (ses *session) keep(id uint32, cancel context.CancelFunc) bool {
	ses.calls.Lock()
	defer ses.calls.Unlock()
	if ses.inFlight[id] != nil || len(ses.inFlight) >= maxInFlight {
		return false
	}
	ses.inFlight[id] = cancel
	return true
}

// end forgets a call and ends what still works on it.
func (ses *session) end(id uint32) {
	ses.calls.Lock()
	cancel := ses.inFlight[id]
	delete(ses.inFlight, id)
	ses.calls.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (ses *session) reply(f frame) error {
	ses.write.Lock()
	defer ses.write.Unlock()
	ses.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := ses.conn.Write(f.append(nil))
	return err
}
