package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// notify tells systemd a state (sd_notify(3)); without systemd it does nothing.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket for %s: %w", name, err)
	}
	defer unix.Close(fd)
	// A name that begins with @ is an abstract socket; the package knows that.
	return unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: name})
}
