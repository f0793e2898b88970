package vm

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// filePair returns two connected UNIX stream sockets for two children. Close both once they are handed over.
func filePair() (a, b *os.File, err error) {
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fd[0]), "socketpair"), os.NewFile(uintptr(fd[1]), "socketpair"), nil
}

// socketPair returns two connected UNIX stream sockets: ours as a net.Conn, theirs to hand to a child.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	a, b, err := filePair()
	if err != nil {
		return nil, nil, err
	}
	defer a.Close() // FileConn works on a duplicate
	if ours, err = net.FileConn(a); err != nil {
		b.Close()
		return nil, nil, err
	}
	return ours, b, nil
}
