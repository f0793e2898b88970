package nbd

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// link is the connection to a client, as those see it who may end it at any time. It can be lent to a crew: then its
// socket is out of the reach of Go's poller, which would otherwise wake a thread for all that arrives.
type link struct {
	remote net.Addr

	mu     sync.Mutex
	conn   net.Conn // nil while it is lent
	fd     int      // of the socket while it is lent, or -1
	ended  bool
	giveUp context.CancelCauseFunc // ends what is done for the client; nil before its first request
}

func newLink(c net.Conn) *link { return &link{remote: c.RemoteAddr(), conn: c} }

// end closes the connection and gives up what waits: once it has returned the client gets nothing any more, and nothing
// is begun for it that has not been. Whoever serves it finds out.
func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
	if l.giveUp != nil {
		l.giveUp(net.ErrClosed) // not before: what is given up would be answered with an error
	}
}

// drop closes the connection because nothing can be sent. What has been asked goes on until the reader is there.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
}

func (l *link) close() {
	l.ended = true
	if l.conn == nil {
		_ = unix.Shutdown(l.fd, unix.SHUT_RDWR)
		return
	}
	l.conn.Close()
}

func (l *link) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// onEnd has end call giveUp.
func (l *link) onEnd(giveUp context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.giveUp = giveUp
	if l.ended {
		giveUp(net.ErrClosed)
	}
}

// interrupt makes a read that waits fail. A crew looks by itself whether the server stops.
func (l *link) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.SetReadDeadline(time.Unix(1, 0)) // long past
	}
}

// current is the connection while it is not lent.
func (l *link) current() net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

// copy is one more descriptor of the socket, for who only looks.
func (l *link) copy() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, net.ErrClosed
	}
	fd, err := l.copySocket()
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "NBD client"), nil
}

// lend gives the bare socket away until reclaim. After an error nothing has changed.
func (l *link) lend() (fd int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return -1, net.ErrClosed
	}
	if fd, err = l.copySocket(); err != nil {
		return -1, err
	}
	l.conn.Close()
	l.conn, l.fd = nil, fd
	return fd, nil
}

// copySocket makes one more descriptor of the socket.
func (l *link) copySocket() (fd int, err error) {
	c, ok := l.conn.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a %T has no descriptor", l.conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	if err := raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || failed != nil {
		return -1, fmt.Errorf("duplicate socket: %w", cmp.Or(err, failed))
	}
	return fd, nil
}

// reclaim makes a connection of the socket again. After an error there is none any more.
func (l *link) reclaim() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := os.NewFile(uintptr(l.fd), "NBD client")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		l.ended, l.fd = true, -1
		return nil, fmt.Errorf("take socket back: %w", err)
	}
	l.conn = c
	if l.ended {
		c.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}
