package vmhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	// The number in the name cannot be another process's: what it leads to is taken by pidfd.
	dir := "/proc/" + strconv.Itoa(m.proc.pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for the socket of a move: %w", err)
	}
	found := false
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if link, look := os.Readlink(filepath.Join(dir, e.Name())); err != nil || look != nil || !strings.HasPrefix(link, "socket:") {
			continue
		}
		err = m.proc.with(func(pidfd int) error {
			fd, err := unix.PidfdGetfd(pidfd, n, 0)
			if err != nil {
				return fmt.Errorf("take QEMU's socket: %w", err)
			}
			defer unix.Close(fd)
			if !listens(fd, first, last) {
				return nil
			}
			found = true
			limit := unix.NsecToTimeval(readLimit.Nanoseconds())
			return os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit))
		})
		if err != nil && !errors.Is(err, unix.EBADF) { // closed since
			return err
		}
	}
	if !found {
		return fmt.Errorf("QEMU listens on no port from %d to %d", first, last)
	}
	return nil
}

// listens tells whether a socket does on a TCP port of that range.
func listens(fd, first, last int) bool {
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return false
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	port := 0
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	return first <= port && port <= last
}
