package vmhost

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readLimit is how long one read of an arriving stream may take. A connection inherits it from the socket that listens.
const readLimit = 100 * time.Millisecond

// arrives does what it can: a move without it is as good as long as nobody stalls.
func (m *machine) arrives() {
	if err := m.arrive(); err != nil {
		m.host.o.Log.Warn("a connection that stalls will keep this VM's monitor from answering", "vm", m.name, "err", err)
	}
}

// arrive has the sockets on which a move arrives hand their impatience on to what connects to them. QEMU does a handshake
// by blocking reads in its main loop: a peer that says nothing, or anyone else who connects, would keep the monitor from
// answering, and what a post-copy has brought from running. A read that gives up makes it wait for more beside everything
// else, as it does for a socket that does not block; nothing ends by it.
func (m *machine) arrive() error {
	first, last, err := m.host.c.Move.ports()
	if err != nil {
		return err
	}
	found := false
	err = m.proc.sockets(func(fd int) error {
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
			return nil
		}
		if at := endpoint(unix.Getsockname(fd)); !at.IsValid() || int(at.Port()) < first || int(at.Port()) > last {
			return nil
		}
		found = true
		limit := unix.NsecToTimeval(readLimit.Nanoseconds())
		return os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
	})
	if err == nil && !found {
		err = fmt.Errorf("QEMU listens on no port from %d to %d", first, last)
	}
	return err
}
