package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// keyGrace is how long a session's key is good without its connection.
	keyGrace = 60 * time.Second
	// joinTimeout bounds a handshake, which an emulated CPU takes its time for.
	joinTimeout = 10 * time.Second
	// maxJoining bounds the handshakes at a time; further connections wait in the backlog.
	maxJoining = 64
	// maxInFlight bounds one host's calls.
	maxInFlight  = 64
	writeTimeout = 10 * time.Second
	// hintsPerSecond bounds the answers to keys that are not known.
	hintsPerSecond = 256
	// readers of the datagram socket, and its buffer: the reports of 10,000 hosts come in bursts.
	readers    = 2
	readBuffer = 1 << 20
)

// CallHandler answers a call. Its context ends when nobody waits for the reply any more.
type CallHandler func(ctx context.Context, host string, request []byte) ([]byte, error)

// DatagramHandler takes a datagram and answers at once, nil for nothing. It runs in the reader and must not block;
// payload is valid during the call only. seq grows with each datagram of a session, which may come out of order.
type DatagramHandler func(host string, seq uint64, payload []byte) (reply []byte)

// ServerOptions configure a Server; Authority, Listener and Packets are required, the server closes the latter two.
type ServerOptions struct {
	Authority *Authority
	Listener  net.Listener
	// Packets has the listener's port number.
	Packets *net.UDPConn
	Log     *slog.Logger
}

// Server is the box's end.
type Server struct {
	o         ServerOptions
	started   time.Time
	calls     map[string]CallHandler
	datagrams [maxKind + 1]DatagramHandler
	onHost    []func(host string, joined bool)

	mu       sync.RWMutex
	sessions map[uint64]*session // by key id
	byHost   map[string]*session // the latest of each host
	stats    map[string]*stats   // of every host that ever came; only enrolled ones can

	hints hintBudget
	work  sync.WaitGroup
}

// stats are a host's counters, over all its sessions.
type stats struct {
	sessions, calls, datagrams, replayed, forged atomic.Uint64
}

// NewServer makes a server; handlers are set before Serve.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Authority == nil || o.Listener == nil || o.Packets == nil {
		return nil, errors.New("make control server: authority, listener and packet socket are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		o: o, started: time.Now(), calls: map[string]CallHandler{},
		sessions: map[uint64]*session{}, byHost: map[string]*session{}, stats: map[string]*stats{},
	}, nil
}

// HandleCall sets the handler of a method; before Serve.
func (s *Server) HandleCall(method string, h func(ctx context.Context, host string, request []byte) ([]byte, error)) {
	s.calls[method] = h
}

// HandleDatagram sets the handler of a kind, 1 to 127; before Serve.
func (s *Server) HandleDatagram(kind uint8, h func(host string, seq uint64, payload []byte) (reply []byte)) {
	if kind <= maxKind {
		s.datagrams[kind] = h
	}
}

// OnHost tells of a host that has joined (perhaps again) and of one whose connection ended; before Serve.
func (s *Server) OnHost(f func(host string, joined bool)) { s.onHost = append(s.onHost, f) }

// Serve serves until ctx ends, then returns nil when nothing is running any more.
func (s *Server) Serve(ctx context.Context) error {
	config, err := s.o.Authority.ServerTLS()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.o.Authority.Watch(s.hangUp)
	defer s.o.Authority.Watch(nil)
	stop := context.AfterFunc(ctx, func() {
		s.o.Listener.Close()
		s.o.Packets.Close()
	})
	defer stop()
	_ = s.o.Packets.SetReadBuffer(readBuffer) // the kernel gives what it may
	for range readers {
		s.work.Go(s.receive)
	}
	s.work.Go(func() { s.sweep(ctx) })
	err = s.accept(ctx, config)
	cancel()
	s.work.Wait()
	if err != nil {
		return fmt.Errorf("serve hosts: %w", err)
	}
	return nil
}

// HostStatus is what the box knows of an enrolled host.
type HostStatus struct {
	Name    string
	Joined  bool
	Address netip.AddrPort // proven last; zero if never
	// Silent is the time since its last proven word, negative if there was none.
	Silent                                       time.Duration
	Sessions, Calls, Datagrams, Replayed, Forged uint64
}

// Hosts lists the enrolled hosts by name.
func (s *Server) Hosts() []HostStatus {
	names := s.o.Authority.Names()
	out := make([]HostStatus, 0, len(names))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, name := range names {
		h := HostStatus{Name: name, Silent: -1}
		if ses := s.byHost[name]; ses != nil {
			h.Joined, h.Silent = ses.connected.Load(), s.since(ses)
			at := ses.from()
			h.Address = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		}
		if st := s.stats[name]; st != nil {
			h.Sessions, h.Calls, h.Datagrams = st.sessions.Load(), st.calls.Load(), st.datagrams.Load()
			h.Replayed, h.Forged = st.replayed.Load(), st.forged.Load()
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b HostStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Send sends a host a datagram that it did not ask for. It may be lost.
func (s *Server) Send(host string, kind uint8, payload []byte) error {
	if kind == 0 || kind > maxKind || len(payload) > MaxPayload {
		return fmt.Errorf("send %s a datagram of kind %d with %d bytes: at most kind %d and %d bytes", host, kind, len(payload), maxKind, MaxPayload)
	}
	s.mu.RLock()
	ses := s.byHost[host]
	s.mu.RUnlock()
	if ses == nil {
		return fmt.Errorf("send to host %s: %w", host, ErrNotJoined)
	}
	to := ses.from()
	if !to.IsValid() {
		return fmt.Errorf("send to host %s: %w: no datagram has come from it yet", host, ErrNotJoined)
	}
	b := ses.keys.seal(make([]byte, 0, sealHeader+len(payload)+sealTag), kind, ses.sent.Add(1), payload)
	if _, err := s.o.Packets.WriteToUDPAddrPort(b, to); err != nil {
		return fmt.Errorf("send to host %s: %w", host, err)
	}
	return nil
}

// now is the monotonic time since the server was made.
func (s *Server) now() int64 { return int64(time.Since(s.started)) }

func (s *Server) since(ses *session) time.Duration {
	return time.Duration(s.now() - ses.heard.Load())
}

// add makes the session its host's one; the older one ends, but for what it has sent already.
func (s *Server) add(ses *session) bool {
	s.mu.Lock()
	if _, taken := s.sessions[ses.keys.id]; taken { // one in 2^64: the host tries again
		s.mu.Unlock()
		return false
	}
	old := s.byHost[ses.host]
	st := s.stats[ses.host]
	if st == nil {
		st = &stats{}
		s.stats[ses.host] = st
	}
	ses.stats = st
	s.sessions[ses.keys.id], s.byHost[ses.host] = ses, ses
	s.mu.Unlock()
	st.sessions.Add(1)
	ses.connected.Store(true)
	if old != nil {
		old.conn.Close()
	}
	return true
}

// hangUp ends whatever a host has; its certificate is void.
func (s *Server) hangUp(host string) {
	s.mu.Lock()
	var ended []*session
	for id, ses := range s.sessions {
		if ses.host == host {
			ended = append(ended, ses)
			delete(s.sessions, id)
		}
	}
	delete(s.byHost, host)
	delete(s.stats, host)
	s.mu.Unlock()
	for _, ses := range ended {
		ses.conn.Close()
	}
}

// sweep forgets keys whose connection has been gone for their grace.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(keyGrace / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		for id, ses := range s.sessions {
			if !ses.connected.Load() && (s.since(ses) > keyGrace || s.byHost[ses.host] != ses) {
				delete(s.sessions, id)
				if s.byHost[ses.host] == ses {
					delete(s.byHost, ses.host)
				}
			}
		}
		s.mu.Unlock()
	}
}

// tell tells everyone who asked for it.
func (s *Server) tell(host string, joined bool) {
	for _, f := range s.onHost {
		f(host, joined)
	}
}
