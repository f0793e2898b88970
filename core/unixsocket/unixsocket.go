// Package unixsocket makes room for a unix socket where a process that was killed has left its own.
package unixsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// RemoveStale removes a socket that nobody listens on any more, and nothing else: a file of another kind, and the socket of
// a server that answers, is too busy to, or takes datagrams, is an error and stays. That nothing is there is none.
func RemoveStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listen on unix:%s: a file that is not a socket is in the way", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("listen on unix:%s: another process serves it", path)
	}
	// One that is busy, or of another kind, says something else.
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen on unix:%s: a socket is in the way: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen: remove what a process has left: %w", err)
	}
	return nil
}
