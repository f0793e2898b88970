package qmp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// GiveFile makes an open file known to QEMU under a name, by which one later command takes it (getfd). The monitor must be
// a unix socket. Both have the file from then on, status flags included.
func (c *Client) GiveFile(ctx context.Context, name string, file syscall.Conn) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("getfd: %w", err)
	}
	var given error
	err = raw.Control(func(fd uintptr) {
		given = c.do(ctx, "getfd", map[string]string{"fdname": name}, nil, syscall.UnixRights(int(fd)))
	})
	return errors.Join(err, given)
}

// writeRights sends a line with file descriptors.
func writeRights(conn net.Conn, line, rights []byte) error {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("files go over unix sockets only")
	}
	n, _, err := u.WriteMsgUnix(line, rights, nil)
	if err == nil && n < len(line) {
		_, err = u.Write(line[n:])
	}
	return err
}
