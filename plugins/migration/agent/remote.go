package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Options of a Remote; the zero value works.
type Options struct {
	// Resend is how long an unanswered request waits before it is sent again, and the pause between two attempts to dial:
	// the port swallows what is sent while nobody in the guest has it open. 0 is half a second.
	Resend time.Duration
	// Limit bounds a request whose context has no deadline. 0 is half a minute.
	Limit time.Duration
	// Idle is how long an unused connection is kept. 0 is five seconds.
	Idle time.Duration
}

// Remote is a Client over connections that it dials.
type Remote struct {
	dial func(ctx context.Context) (net.Conn, error)
	o    Options
	id   string // first half of its IDs

	// dialing is held while one dials: the port has room for one connection.
	dialing chan struct{}

	mu      sync.Mutex
	next    uint64
	pending map[string]chan wire.Response // buffered 1
	link    *link
	idle    *time.Timer
	closed  bool
}

var _ Client = (*Remote)(nil)

// New makes a client that connects by dial, when it is first asked something.
func New(dial func(ctx context.Context) (net.Conn, error), o Options) *Remote {
	o.Resend = or(o.Resend, 500*time.Millisecond)
	o.Limit = or(o.Limit, 30*time.Second)
	o.Idle = or(o.Idle, 5*time.Second)
	return &Remote{dial: dial, o: o, id: rand.Text(), dialing: make(chan struct{}, 1), pending: make(map[string]chan wire.Response)}
}

func or(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Close ends the connection. Requests under way fail.
func (r *Remote) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.idle != nil {
		r.idle.Stop()
	}
	if r.link != nil {
		r.link.close()
	}
	return nil
}

// link is one connection.
type link struct {
	conn  net.Conn
	write sync.Mutex
	once  sync.Once
	gone  chan struct{}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.gone)
		_ = l.conn.Close()
	})
}

func (l *link) send(line []byte, within time.Duration) error {
	l.write.Lock()
	defer l.write.Unlock()
	l.conn.SetWriteDeadline(time.Now().Add(within))
	_, err := l.conn.Write(line)
	if err != nil {
		l.close() // half a line may have left
	}
	return err
}

// connect returns the connection, dialling if there is none.
func (r *Remote) connect(ctx context.Context) (*link, error) {
	select {
	case r.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-r.dialing }()

	r.mu.Lock()
	l, closed := r.link, r.closed
	r.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	if l != nil {
		select {
		case <-l.gone:
		default:
			return l, nil
		}
	}
	conn, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	l = &link{conn: conn, gone: make(chan struct{})}
	go r.read(l)
	r.mu.Lock()
	r.link, closed = l, r.closed
	r.mu.Unlock()
	if closed {
		l.close()
		return nil, net.ErrClosed
	}
	// Whoever had the port before may have left half a line.
	return l, l.send([]byte("\n"), r.o.Resend)
}

func (r *Remote) read(l *link) {
	defer l.close()
	var lines wire.Lines
	buf := make([]byte, 4096)
	for {
		n, err := l.conn.Read(buf)
		lines.Feed(buf[:n], r.deliver)
		if err != nil {
			return
		}
	}
}

// deliver drops what nobody waits for: answers to an earlier owner of the port, second answers, noise.
func (r *Remote) deliver(line []byte) {
	a, err := wire.ParseResponse(line)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if reply := r.pending[a.ID]; reply != nil {
		delete(r.pending, a.ID)
		reply <- a
	}
}

// do sends a request until it is answered or ctx ends.
func (r *Remote) do(ctx context.Context, verb wire.Verb, args, out any) error {
	ctx, cancel := context.WithTimeout(ctx, r.limit(ctx))
	defer cancel()
	id, reply, err := r.enter(ctx)
	if err != nil {
		return fmt.Errorf("ask the agent for %s: %w", verb, err)
	}
	defer r.leave(id)
	req := wire.Request{Version: wire.Version, ID: id, Verb: verb}
	if deadline, ok := ctx.Deadline(); ok {
		// The guest gives up first, so that its reason comes back and not our own lack of patience.
		req.Wait = min(max(time.Until(deadline)*9/10, time.Millisecond), wire.MaxWait).Milliseconds()
	}
	if args != nil {
		if req.Args, err = json.Marshal(args); err != nil {
			return err
		}
	}
	line, err := wire.Line(req)
	if err != nil {
		return fmt.Errorf("ask the agent for %s: %w", verb, err)
	}
	a, err := r.exchange(ctx, line, reply)
	if err != nil {
		return fmt.Errorf("ask the agent for %s: %w", verb, err)
	}
	if a.Error != nil {
		return fmt.Errorf("agent: %s: %w", verb, a.Error)
	}
	if err := json.Unmarshal(a.Result, out); err != nil {
		return fmt.Errorf("read the agent's answer to %s: %w", verb, err)
	}
	return nil
}

func (r *Remote) limit(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return r.o.Limit
}

// enter registers a request under its ID.
func (r *Remote) enter(ctx context.Context) (string, chan wire.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	id, given := ctx.Value(idKey{}).(string)
	if !given {
		id = r.id + "/" + strconv.FormatUint(r.next, 36)
	}
	if r.closed {
		return "", nil, net.ErrClosed
	}
	if r.pending[id] != nil {
		return "", nil, fmt.Errorf("request %q is under way", id)
	}
	reply := make(chan wire.Response, 1)
	r.pending[id] = reply
	if r.idle != nil {
		r.idle.Stop()
	}
	return id, reply, nil
}

// leave forgets the request; the last one leaves the connection to the idle timer.
func (r *Remote) leave(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, id)
	if len(r.pending) > 0 || r.link == nil || r.closed {
		return
	}
	l := r.link
	r.idle = time.AfterFunc(r.o.Idle, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.pending) == 0 {
			l.close()
		}
	})
}

func (r *Remote) exchange(ctx context.Context, line []byte, reply <-chan wire.Response) (wire.Response, error) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	var last error
	for {
		var gone <-chan struct{} // nil: nothing to wait for but the pause
		l, err := r.connect(ctx)
		if err == nil {
			err = l.send(line, r.o.Resend)
		}
		switch {
		case errors.Is(err, net.ErrClosed) && r.isClosed():
			return wire.Response{}, net.ErrClosed
		case err == nil:
			gone = l.gone
		case ctx.Err() == nil:
			last = err
		}
		pause.Reset(r.o.Resend)
		select {
		case a := <-reply:
			return a, nil
		case <-gone:
			last = errors.New("the connection was closed")
			// A hypervisor without the guest accepts and closes at once: no faster than Resend.
			select {
			case a := <-reply:
				return a, nil
			case <-pause.C:
			case <-ctx.Done():
			}
		case <-pause.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return wire.Response{}, errors.Join(ErrNoAgent, last, context.Cause(ctx))
		}
	}
}

func (r *Remote) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Report implements Client, as do the methods below it.
func (r *Remote) Report(ctx context.Context) (g model.Guest, err error) {
	err = r.do(ctx, wire.Report, nil, &g)
	return g, err
}

// Ping returns the guest's boot ID.
func (r *Remote) Ping(ctx context.Context) (string, error) {
	var p wire.Pong
	if err := r.do(ctx, wire.Ping, nil, &p); err != nil {
		return "", err
	}
	if p.BootID == "" {
		return "", errors.New("the agent does not know its boot ID")
	}
	return p.BootID, nil
}

// Augment gives the guest capabilities.
func (r *Remote) Augment(ctx context.Context, capabilities ...string) ([]model.Capability, error) {
	var a wire.Augmented
	err := r.do(ctx, wire.Augment, wire.Capabilities{Names: capabilities}, &a)
	return a.Capabilities, err
}

// OnlineCPUs brings processors online.
func (r *Remote) OnlineCPUs(ctx context.Context, want int) (int, error) {
	return r.cpus(ctx, wire.OnlineCPUs, want)
}

// OfflineCPUs takes processors offline.
func (r *Remote) OfflineCPUs(ctx context.Context, want int) (int, error) {
	return r.cpus(ctx, wire.OfflineCPUs, want)
}

func (r *Remote) cpus(ctx context.Context, verb wire.Verb, want int) (int, error) {
	var now wire.CPUs
	err := r.do(ctx, verb, wire.CPUs{Online: want}, &now)
	return now.Online, err
}

// OnlineMemory brings memory online.
func (r *Remote) OnlineMemory(ctx context.Context, want uint64) (uint64, error) {
	return r.memory(ctx, wire.OnlineMemory, want)
}

// OfflineMemory takes memory offline.
func (r *Remote) OfflineMemory(ctx context.Context, want uint64) (uint64, error) {
	return r.memory(ctx, wire.OfflineMemory, want)
}

func (r *Remote) memory(ctx context.Context, verb wire.Verb, want uint64) (uint64, error) {
	var now wire.Memory
	err := r.do(ctx, verb, wire.Memory{Bytes: want}, &now)
	return now.Bytes, err
}

// SwapNIC moves what one card has to another.
func (r *Remote) SwapNIC(ctx context.Context, from, to string) (s wire.NICSwap, err error) {
	err = r.do(ctx, wire.SwapNIC, wire.NICs{From: from, To: to}, &s)
	return s, err
}

// Disks lists disks.
func (r *Remote) Disks(ctx context.Context, q wire.DiskQuery) ([]wire.Disk, error) {
	var l wire.DiskList
	err := r.do(ctx, wire.Disks, q, &l)
	return l.Disks, err
}

// Hook runs a program of the guest's owner.
func (r *Remote) Hook(ctx context.Context, name string) error {
	var done struct{}
	return r.do(ctx, wire.RunHook, wire.Hook{Name: name}, &done)
}
