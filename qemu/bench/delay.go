package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// delayProxy stands between a gateway and its provider and makes the way longer: what comes in on one side leaves on
// the other half a round trip later, in both directions. It adds latency only, no limit of bandwidth.
type delayProxy struct {
	Address string // host:port to connect to

	to        string
	roundTrip atomic.Int64 // ns
	sent      atomic.Int64 // bytes towards the provider
	listener  net.Listener
	wg        sync.WaitGroup
	mu        sync.Mutex
	conns     map[net.Conn]struct{} // nil after stop
}

// startDelay listens on a free port in front of an address.
func startDelay(to string) (*delayProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the delay proxy: %w", err)
	}
	p := &delayProxy{Address: l.Addr().String(), to: to, listener: l, conns: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// set changes the round trip for everything that arrives from now on.
func (p *delayProxy) set(roundTrip time.Duration) { p.roundTrip.Store(int64(roundTrip)) }

// stop closes the proxy with all its connections.
func (p *delayProxy) stop() {
	p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
}

// keep remembers a connection for stop, unless that has been called already.
func (p *delayProxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		c.Close()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *delayProxy) forget(list ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range list {
		c.Close()
		delete(p.conns, c)
	}
}

func (p *delayProxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.keep(c) {
			p.wg.Go(func() { p.connection(c) })
		}
	}
}

func (p *delayProxy) connection(c net.Conn) {
	provider, err := net.Dial("tcp", p.to)
	if err != nil || !p.keep(provider) {
		p.forget(c)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pipe(provider, c, &p.sent) })
	both.Go(func() { p.pipe(c, provider, new(atomic.Int64)) })
	both.Wait()
	p.forget(c, provider)
}

// piece is data on its way.
type piece struct {
	data *[pieceSize]byte
	n    int
	due  time.Time
}

const (
	pieceSize = 64 << 10
	// onTheWay bounds what one direction holds: 64 MiB, more than a round trip of any bandwidth measured here.
	onTheWay = 1024
)

// pipe moves one direction until it ends; then the other end is told so.
func (p *delayProxy) pipe(to, from net.Conn, count *atomic.Int64) {
	way := make(chan piece, onTheWay)
	buffers := sync.Pool{New: func() any { return new([pieceSize]byte) }}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.wg.Go(func() {
		defer close(way)
		for {
			b := buffers.Get().(*[pieceSize]byte)
			n, err := from.Read(b[:])
			if n > 0 {
				select {
				case way <- piece{b, n, time.Now().Add(time.Duration(p.roundTrip.Load()) / 2)}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for w := range way {
		time.Sleep(time.Until(w.due))
		n, err := to.Write(w.data[:w.n])
		buffers.Put(w.data)
		count.Add(int64(n))
		if err != nil {
			from.Close()
			return
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok && !errors.Is(half.CloseWrite(), net.ErrClosed) {
		return
	}
	to.Close()
}
