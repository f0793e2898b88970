package vmhost

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sockets calls f with each socket of the process, as a descriptor that is closed after it. Both have the same socket then.
func (p *process) sockets(f func(fd int) error) error {
	// The number in the name cannot be another process's: what it leads to is taken by pidfd.
	dir := "/proc/" + strconv.Itoa(p.pid) + "/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for QEMU's sockets: %w", err)
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if link, look := os.Readlink(filepath.Join(dir, e.Name())); err != nil || look != nil || !strings.HasPrefix(link, "socket:") {
			continue
		}
		err = p.with(func(pidfd int) error {
			fd, err := unix.PidfdGetfd(pidfd, n, 0)
			if err != nil {
				return fmt.Errorf("take QEMU's socket: %w", err)
			}
			defer unix.Close(fd)
			return f(fd)
		})
		if err != nil && !errors.Is(err, unix.EBADF) { // closed since
			return err
		}
	}
	return nil
}

// endpoint is an end of a TCP connection; it is not valid for another socket.
func endpoint(address unix.Sockaddr, err error) netip.AddrPort {
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
