package nbd

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hangUpAfter is how long a reader waits for room before its socket is watched: most waits are over by then.
const hangUpAfter = time.Millisecond

// watchHangUp gives up what waits when the client leaves, until stop is called. It is for a reader that does not read:
// what a client left behind must not come after what it writes on its next connection.
func (s *session) watchHangUp() (stop func()) {
	begun, ended := make(chan *os.File, 1), make(chan struct{})
	timer := time.AfterFunc(hangUpAfter, func() {
		defer close(ended)
		f, err := s.link.copy()
		begun <- f
		if errors.Is(err, net.ErrClosed) || err == nil && s.awaitHangUp(f) {
			s.rd.spill.gone = true
			s.giveUp(errGone)
		}
	})
	return func() {
		if timer.Stop() {
			return
		}
		if f := <-begun; f != nil {
			f.Close()
		}
		<-ended
	}
}

// awaitHangUp waits until the client has hung up, or f is closed and it is false. f is a copy of the socket, because
// Go's poller serves one who reads at a time.
func (s *session) awaitHangUp(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(s.left) == nil
}

// left reports whether the client has hung up and wants nothing any more. Over TCP that is seen when all that it sent has
// come, so room is made for it. In TLS it is not: what comes must be read by who has the keys.
func (s *session) left(fd uintptr) bool {
	if _, ok := s.nc.(*net.TCPConn); ok && !s.stopping.Load() {
		s.rd.spill.drain(int(fd))
	}
	return hungUp(int(fd)) && !s.disconnects(int(fd))
}

// disconnects reports whether what the client sent last is NBD_CMD_DISC: it wants what it asked for to be done all the
// same. In TLS that cannot be told.
func (s *session) disconnects(fd int) bool {
	if _, ok := s.nc.(syscall.Conn); !ok {
		return false
	}
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	if err != nil {
		return false
	}
	rest := append(s.rd.tail(requestLen), make([]byte, n)...)
	k := len(rest) - n
	if n, _, err = unix.Recvfrom(fd, rest[k:], unix.MSG_PEEK|unix.MSG_DONTWAIT); err == nil {
		k += n
	}
	if k < requestLen {
		return false
	}
	req, err := parseRequest(rest[k-requestLen : k])
	return err == nil && req.cmd == CmdDisc
}
