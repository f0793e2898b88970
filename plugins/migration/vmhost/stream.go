package vmhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

const (
	// connectLimit bounds the connection to a destination, which an address without a host behind it never answers.
	connectLimit = 5 * time.Second
	// handshakeLimit is how long the other side may take for its part of the TLS handshake. The guest runs meanwhile.
	handshakeLimit = 5 * time.Second
	// startLimit is how long QEMU may take to begin with it, which is no work.
	startLimit = 3 * time.Second
	// deafLimit is how long a QEMU may keep an order to itself until what holds it up is cut.
	deafLimit = time.Second
	// streamFile is the stream's name in QEMU's monitor.
	streamFile = "move-stream"
)

// stream is the connection by which the memory of a VM leaves. The agent opens it and hands it to QEMU, as libvirt does.
//
// QEMU would open it blocking, and do the TLS handshake on it in its main loop with the big lock held: a peer that says
// nothing more stops the guest, the monitor, and with it every order to end that. This one does not block, so the main
// loop waits for the peer beside everything else; once the handshake is over QEMU makes it blocking for its own thread.
// And the agent keeps a descriptor of it, by which the stream ends even when QEMU hears nothing.
type stream struct {
	conn *net.TCPConn
	peer string

	mu     sync.Mutex
	status string // of the migration, as last told by an event
	why    string // the agent has cut it
	done   chan struct{}
}

// newStream connects to a destination, "HOST:PORT".
func newStream(ctx context.Context, address string) (*stream, error) {
	d := net.Dialer{Timeout: connectLimit}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the destination: %w", err)
	}
	return &stream{conn: conn.(*net.TCPConn), peer: address, done: make(chan struct{})}, nil
}

// unblock makes it not block again, for both who have it: a QEMU that is given a file makes that blocking.
func (s *stream) unblock() error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(raw.Control(func(fd uintptr) { inner = unix.SetNonblock(int(fd), true) }), inner)
}

// close lets go of the stream, which QEMU may use on. A descriptor that is kept longer than QEMU's would hide from the
// destination that the stream has ended.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
	default:
		close(s.done)
		s.conn.Close()
	}
}

// cut ends the stream under QEMU, which finds it closed by its peer. It reports whether there was anything to cut. In a
// post-copy there is not: the guest is in two places then.
func (s *stream) cut(why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return false
	default:
	}
	if strings.HasPrefix(s.status, "postcopy") {
		return false
	}
	if s.why == "" {
		s.why = why
	}
	return errors.Join(s.conn.CloseRead(), s.conn.CloseWrite()) == nil // shutdown(2), which other descriptors notice
}

// reason is why the agent has cut it, "" if it has not.
func (s *stream) reason() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// saw takes a status of the migration.
func (s *stream) saw(status string) {
	s.mu.Lock()
	s.status = status
	s.mu.Unlock()
	switch status {
	case "completed", "failed", "cancelled":
		s.close()
	}
}

func (s *stream) state() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// leaving is the stream of a VM's last transfer, nil if this agent has started none.
func (m *machine) leaving() *stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stream
}

// migrate is QEMU's command of that name, over a stream of ours.
func (m *machine) migrate(ctx context.Context, arguments json.RawMessage) error {
	var a map[string]any
	if err := json.Unmarshal(arguments, &a); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	uri, _ := a["uri"].(string)
	s, err := newStream(ctx, strings.TrimPrefix(uri, "tcp:"))
	if err != nil {
		return err
	}
	a["uri"] = "fd:" + streamFile
	ctx, cancel := context.WithTimeout(ctx, startLimit) // were it to wait for its peer after all, the guest would too
	defer cancel()
	m.mu.Lock()
	before, monitor := m.stream, m.monitor
	m.stream = s
	m.mu.Unlock()
	if before != nil {
		before.close()
	}
	err = errors.New("its monitor is being connected to again")
	if monitor != nil {
		if err = errors.Join(monitor.GiveFile(ctx, streamFile, s.conn), s.unblock()); err == nil {
			err = monitor.Do(ctx, "migrate", a, nil)
		}
	}
	if err != nil {
		s.cut("the transfer did not start")
		s.close()
		return err
	}
	m.host.work.Go(func() { m.guard(s) })
	return nil
}

// guard cuts a stream whose handshake does not come to an end.
func (m *machine) guard(s *stream) {
	limit := time.NewTimer(handshakeLimit)
	defer limit.Stop()
	select {
	case <-limit.C:
	case <-s.done:
		return
	}
	if status := s.state(); status != "" && status != "setup" && status != "cancelling" {
		return
	}
	// An event may be lost with a connection to the monitor.
	ctx, cancel := context.WithTimeout(context.Background(), deafLimit)
	defer cancel()
	var is struct{ Status string }
	if err := m.do(ctx, "query-migrate", nil, &is); err == nil && is.Status != "setup" && is.Status != "cancelling" {
		return
	}
	why := fmt.Sprintf("%s did not finish the TLS handshake within %v: look at the link between the hosts", s.peer, handshakeLimit)
	if s.cut(why) {
		m.host.o.Log.Warn("stream of a move cut", "vm", m.name, "why", why)
	}
}

// cancel is QEMU's migrate_cancel for one that may not hear it: it waits for its peer in the handshake, or in the last
// writes, which it does with its big lock held.
func (m *machine) cancel(ctx context.Context) error {
	s := m.leaving()
	if s != nil && strings.HasPrefix(s.state(), "postcopy") {
		return errors.New("cancel the transfer: it is a post-copy by now, from which there is no way back")
	}
	first, stop := context.WithTimeout(ctx, deafLimit)
	err := m.do(first, "migrate_cancel", nil, nil)
	late := err != nil && first.Err() != nil && ctx.Err() == nil
	stop()
	if s == nil || err != nil && !late {
		return err
	}
	s.cut("cancelled")
	if !late {
		return nil
	}
	m.host.o.Log.Warn("stream of a move cut", "vm", m.name, "why", "QEMU does not hear that the move is cancelled")
	return m.do(ctx, "migrate_cancel", nil, nil) // again is the same as once
}

// saw tells the stream what an event says of it.
func (m *machine) saw(e qmp.Event) {
	if e.Name != "MIGRATION" {
		return
	}
	var is struct{ Status string }
	if s := m.leaving(); s != nil && json.Unmarshal(e.Data, &is) == nil {
		s.saw(is.Status)
	}
}

// because puts the reason for a cut in the place of QEMU's, who knows only that its peer is gone.
func (m *machine) because(reply json.RawMessage) json.RawMessage {
	s := m.leaving()
	if s == nil || s.reason() == "" {
		return reply
	}
	var is map[string]json.RawMessage
	if json.Unmarshal(reply, &is) != nil || string(is["status"]) != `"failed"` {
		return reply
	}
	is["error-desc"], _ = json.Marshal(s.reason())
	if b, err := json.Marshal(is); err == nil {
		return b
	}
	return reply
}
