package notify

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Server listens on a NOTIFY_SOCKET.
type Server struct {
	conn *net.UnixConn
	path string
}

// Listen makes the socket at path, for every user of the box: who may say what is decided
// by the sender's pid.
func Listen(path string) (*Server, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for notifications: %w", err)
	}
	if err := errors.Join(passCredentials(conn), os.Chmod(path, 0o666)); err != nil {
		return nil, fmt.Errorf("listen for notifications: %w", errors.Join(err, conn.Close()))
	}
	return &Server{conn: conn, path: path}, nil
}

// Path is what NOTIFY_SOCKET must say.
func (s *Server) Path() string { return s.path }

// Serve hands every message to handle until Close. handle must not block.
func (s *Server) Serve(handle func(Message)) error {
	buf := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(64*4))
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUnix(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive notification: %w", err)
		}
		pid := sender(oob[:oobn])
		if pid <= 0 {
			continue // nobody we could name
		}
		m := Parse(string(buf[:n]))
		m.PID = pid
		handle(m)
	}
}

// Close ends Serve and removes the socket.
func (s *Server) Close() error {
	err := s.conn.Close()
	_ = os.Remove(s.path)
	return err
}

func passCredentials(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	})
	return errors.Join(err, setErr)
}

// sender finds the pid in the ancillary data and closes descriptors that came along.
func sender(oob []byte) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	pid := 0
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
	}
	return pid
}
