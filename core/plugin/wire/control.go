package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Kinds of control messages.
const (
	// KindHandle carries the descriptor of one handle.
	KindHandle = "handle"
	// KindHost carries the plugin's end of a new Host connection.
	KindHost = "host"
)

// maxControl bounds one control message; longer ones are refused.
const maxControl = 4096

// Message is one control message. Every message carries exactly one descriptor.
type Message struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"` // KindHandle: the Want's name
}

// ParseMessage decodes the text part of a control message.
func ParseMessage(data []byte) (Message, error) {
	var m Message
	if len(data) > maxControl {
		return m, errors.New("parse control message: too long")
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("parse control message: %w", err)
	}
	switch {
	case m.Kind == KindHost:
	case m.Kind == KindHandle && m.Name != "":
	default:
		return m, fmt.Errorf("parse control message: unknown kind %q or no name", m.Kind)
	}
	return m, nil
}

// Control is one end of the control socket. Send and Receive may run beside each other,
// but only one of each at a time.
type Control struct {
	conn *net.UnixConn
}

// NewControl takes over f, a SOCK_SEQPACKET socket.
func NewControl(f *os.File) (*Control, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("open control socket: not a unix socket")
	}
	return &Control{conn: u}, nil
}

// ControlPair makes a control socket: core's end, and the file for the plugin to inherit.
func ControlPair() (*Control, *os.File, error) {
	mine, theirs, err := Socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, err
	}
	c, err := NewControl(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c, theirs, nil
}

// Socketpair makes a pair of connected unix sockets of the given type.
func Socketpair(typ int) (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socketpair"), os.NewFile(uintptr(fds[1]), "socketpair"), nil
}

// Send sends m with a duplicate of f. It gives up at the deadline: a plugin that does not
// read its control socket must not hold core up.
func (c *Control) Send(m Message, f *os.File, deadline time.Time) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode control message: %w", err)
	}
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("send %s %s: %w", m.Kind, m.Name, err)
	}
	// SyscallConn and not Fd: Fd would put the descriptor into blocking mode, which is
	// shared with every duplicate and would hang the accept loop of a plugin.
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("send %s %s: %w", m.Kind, m.Name, err)
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		_, _, sendErr = c.conn.WriteMsgUnix(data, unix.UnixRights(int(fd)), nil)
	})
	if err := errors.Join(err, sendErr); err != nil {
		return fmt.Errorf("send %s %s: %w", m.Kind, m.Name, err)
	}
	return nil
}

// Receive waits for the next message and its descriptor, which the caller owns.
// It returns io.EOF when the other end is gone.
func (c *Control) Receive() (Message, *os.File, error) {
	buf := make([]byte, maxControl+1)
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := c.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) {
			err = io.EOF // the other end died with messages of ours unread
		}
		return Message{}, nil, fmt.Errorf("receive control message: %w", err)
	}
	fds, err := descriptors(oob[:oobn])
	if err != nil {
		return Message{}, nil, err
	}
	if n == 0 && len(fds) == 0 {
		return Message{}, nil, io.EOF
	}
	m, err := ParseMessage(buf[:n])
	if err == nil && len(fds) != 1 {
		err = fmt.Errorf("receive control message: %d descriptors, want 1", len(fds))
	}
	if err != nil {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return Message{}, nil, err
	}
	return m, os.NewFile(uintptr(fds[0]), m.Name), nil
}

// ReceiveBefore is Receive that gives up at the deadline: core does not wait for ever for what a plugin announced.
func (c *Control) ReceiveBefore(deadline time.Time) (Message, *os.File, error) {
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return Message{}, nil, fmt.Errorf("receive control message: %w", err)
	}
	return c.Receive()
}

// Close ends the control socket. It cannot fail in a way that anybody could act upon.
func (c *Control) Close() { _ = c.conn.Close() }

func descriptors(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse ancillary data: %w", err)
	}
	var fds []int
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // not descriptors
		}
		fds = append(fds, got...)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}
