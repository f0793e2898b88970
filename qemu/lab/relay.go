package lab

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Relay forwards TCP connections, until it is told to cut them or to hold them up at a byte.
type Relay struct {
	listener net.Listener
	target   string
	sent     atomic.Int64 // bytes towards the target

	mu      sync.Mutex
	cut     int64 // -1: never
	stall   int64
	mute    int64         // answers on each connection; -1: all of them
	stalled chan struct{} // closed when it is; nil once it was
	resumed chan struct{}
	conns   map[net.Conn]bool
	closed  bool
	ended   chan struct{} // closed when it is
	wg      sync.WaitGroup
}

// NewRelay listens on loopback for what shall reach target, "tcp:HOST:PORT" or "HOST:PORT".
func NewRelay(target string) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{listener: l, target: strings.TrimPrefix(target, "tcp:"), cut: -1, stall: -1, mute: -1, resumed: make(chan struct{}), ended: make(chan struct{}), conns: map[net.Conn]bool{}}
	r.wg.Go(r.accept)
	return r, nil
}

// Address is where to connect, as "tcp:127.0.0.1:PORT".
func (r *Relay) Address() string { return "tcp:" + r.listener.Addr().String() }

// Bytes is how many were forwarded towards the target.
func (r *Relay) Bytes() int64 { return r.sent.Load() }

// CutAt closes all connections once n bytes were forwarded towards the target; 0 is at once.
func (r *Relay) CutAt(n int64) {
	r.mu.Lock()
	r.cut = n
	now := r.sent.Load() >= n
	r.mu.Unlock()
	if now {
		r.cutAll()
	}
}

// StallAt stops forwarding towards the target after n bytes, without closing anything, until Resume. The channel is closed
// once it has.
func (r *Relay) StallAt(n int64) (stalled <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stall, r.stalled = n, make(chan struct{})
	return r.stalled
}

// MuteAt stops forwarding answers after n bytes of them on each connection to come, without closing anything. With StallAt it
// is a host that has vanished: not even its end is noticed.
func (r *Relay) MuteAt(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = n
}

// Resume ends a stall, for good.
func (r *Relay) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stall >= 0 {
		r.stall = -1
		close(r.resumed)
		r.resumed = make(chan struct{})
	}
}

// Close cuts everything and waits until nothing runs any more.
func (r *Relay) Close() error {
	r.mu.Lock()
	if !r.closed {
		close(r.ended)
	}
	r.closed = true
	r.mu.Unlock()
	err := r.listener.Close()
	r.cutAll()
	r.Resume()
	r.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (r *Relay) cutAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		// A reset, not an orderly end: that is what a cut link looks like once somebody writes.
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}

// keep registers a connection, unless the relay is closed.
func (r *Relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close()
		return false
	}
	r.conns[c] = true
	return true
}

func (r *Relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	_ = c.Close()
}

func (r *Relay) accept() {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.DialTimeout("tcp", r.target, 5*time.Second)
		if err != nil {
			_ = in.Close()
			continue
		}
		if !r.keep(in) || !r.keep(out) {
			_ = in.Close()
			return
		}
		r.wg.Go(func() { r.forward(out, in) })
		r.wg.Go(func() { r.answer(in.(*net.TCPConn), out) })
	}
}

// answer forwards what the target says.
func (r *Relay) answer(in *net.TCPConn, out net.Conn) {
	r.mu.Lock()
	mute := r.mute
	r.mu.Unlock()
	if mute < 0 {
		_, _ = io.Copy(in, out)
	} else {
		_, _ = io.CopyN(in, out, mute)
		<-r.ended
	}
	_ = in.CloseWrite()
}

// forward counts, and stops where it was told to, even if it was told while it waited for more.
func (r *Relay) forward(out, in net.Conn) {
	defer r.drop(in)
	defer r.drop(out)
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			k, cut := r.allow(len(b))
			if _, err := out.Write(b[:k]); err != nil {
				return
			}
			if cut {
				r.cutAll()
				return
			}
			b = b[k:]
		}
		if err != nil {
			return
		}
	}
}

// allow waits out a stall, and counts as many of n bytes as may pass before the next stop.
func (r *Relay) allow(n int) (pass int, cut bool) {
	for {
		r.mu.Lock()
		sent, left, stalled := r.sent.Load(), int64(n), false
		if r.cut >= 0 {
			left = min(left, max(r.cut-sent, 0))
		}
		if r.stall >= 0 {
			left = min(left, max(r.stall-sent, 0))
			stalled = sent >= r.stall && !r.closed && (r.cut < 0 || sent < r.cut)
			if stalled && r.stalled != nil {
				close(r.stalled)
				r.stalled = nil
			}
		}
		if !stalled {
			sent = r.sent.Add(left)
			cut = r.cut >= 0 && sent >= r.cut || r.closed
			r.mu.Unlock()
			return int(left), cut
		}
		resumed := r.resumed
		r.mu.Unlock()
		<-resumed
	}
}
