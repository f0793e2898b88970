package vmhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
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

// stream is the connection by which the memory of a VM leaves. The agent opens it and hands it to QEMU.
//
// QEMU would open it blocking, and do the TLS handshake on it in its main loop with the big lock held: a peer that says
// nothing more stops the guest, the monitor, and with it every order to end that. This one does not block, so the main
// loop waits for the peer beside everything else; memory is sent by a thread of its own. And the agent keeps a descriptor
// of it, by which the stream ends even when QEMU hears nothing.
type stream struct {
	file *os.File
	peer string
	late bool // its transfer is a post-copy that goes on

	mu     sync.Mutex
	status string // of the migration, as last told by an event
	why    string // the agent has cut it
	done   chan struct{}
}

// newStream connects to a destination, "HOST:PORT". Go's dialer makes the kernel ask whether an idle peer is still there.
func newStream(ctx context.Context, address string) (*stream, error) {
	d := net.Dialer{Timeout: connectLimit}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the destination: %w", err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &stream{peer: address, done: make(chan struct{})}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var kept int
		if kept, inner = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); inner == nil {
			// Blocking for now, or Go's runtime would watch it, and wake up whenever QEMU sends.
			inner = unix.SetNonblock(kept, false)
			s.file = os.NewFile(uintptr(kept), "stream to "+address)
		}
	})
	if err = errors.Join(err, inner); err != nil {
		return nil, fmt.Errorf("keep the stream: %w", err)
	}
	return s, nil
}

// with calls f with the descriptor.
func (s *stream) with(f func(fd int) error) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
}

// unblock makes it not block, for both who have it: a QEMU that is given a file makes that blocking.
func (s *stream) unblock() error {
	return s.with(func(fd int) error { return unix.SetNonblock(fd, true) })
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
		s.file.Close()
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
	// Unlike close, shutdown is noticed by all who have the socket, and by who waits in a call on it.
	return s.with(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) }) == nil
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
	case "completed", "failed", "cancelled", "postcopy-paused":
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
	monitor, err := m.qmp()
	if err != nil {
		return err
	}
	uri, _ := a["uri"].(string)
	s, err := newStream(ctx, strings.TrimPrefix(uri, "tcp:"))
	if err != nil {
		return err
	}
	s.late, _ = a["resume"].(bool)
	a["uri"] = "fd:" + streamFile
	before := m.leaveBy(s)                              // events may tell of it before the command returns
	ctx, cancel := context.WithTimeout(ctx, startLimit) // were it to wait for its peer after all, the guest would too
	defer cancel()
	if err = errors.Join(monitor.GiveFile(ctx, streamFile, s.file), s.unblock()); err == nil {
		err = monitor.Do(ctx, "migrate", a, nil)
	}
	if err != nil {
		s.cut("the transfer did not start")
		s.close()
		m.leaveBy(before) // one that is under way goes on
		return err
	}
	if before != nil {
		before.close()
	}
	m.host.work.Go(func() { m.guard(s) })
	return nil
}

// leaveBy makes a stream the VM's, and returns the one before.
func (m *machine) leaveBy(s *stream) (before *stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, m.stream = m.stream, s
	return before
}

// guard cuts a stream whose handshake does not come to an end.
func (m *machine) guard(s *stream) {
	limit := time.NewTimer(handshakeLimit)
	defer limit.Stop()
	select {
	case <-limit.C:
	case <-s.done:
		return
	case <-m.ended:
		return
	}
	if !handshaking(s.state()) {
		return
	}
	// An event may be lost with a connection to the monitor.
	ctx, cancel := context.WithTimeout(context.Background(), deafLimit)
	defer cancel()
	var is struct{ Status string }
	if err := m.do(ctx, "query-migrate", nil, &is); err == nil && !handshaking(is.Status) {
		return
	}
	why := fmt.Sprintf("%s did not finish the TLS handshake within %v: look at the link between the hosts", s.peer, handshakeLimit)
	if s.cut(why) {
		m.host.o.Log.Warn("stream of a move cut", "vm", m.name, "why", why)
	}
}

// handshaking tells whether a migration of that status may wait for its stream to be ready; a post-copy that goes on over
// another one does so as what it was.
func handshaking(status string) bool {
	switch status {
	case "", "setup", "cancelling", "postcopy-paused":
		return true
	}
	return false
}

// cancel is QEMU's migrate_cancel for one that may not hear it: it waits for its peer in the handshake, or in the last
// writes, which it does with its big lock held.
func (m *machine) cancel(ctx context.Context) error {
	s := m.leaving()
	if s != nil && (s.late || strings.HasPrefix(s.state(), "postcopy")) {
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
