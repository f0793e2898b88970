package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	document "github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/unixsocket"
)

// openListener makes a listening socket. Core keeps it over restarts of the plugin: in
// between, clients wait in its backlog and are not refused.
func openListener(req Request) (Opened, error) {
	network, addr, err := document.ListenAddress(req.Want.GetSelector())
	if err != nil {
		return Opened{}, fmt.Errorf("listen: %w", err)
	}
	var l net.Listener
	if network == "unix" {
		if err := unixsocket.RemoveStale(addr); err != nil {
			return Opened{}, err
		}
	}
	var lc net.ListenConfig
	if req.NetNS != nil {
		lc.Control = freebind
	}
	err = inNetNS(req.NetNS, func() (err error) {
		l, err = lc.Listen(context.Background(), network, addr)
		return err
	})
	if err != nil {
		return Opened{}, fmt.Errorf("listen: %w", err)
	}
	defer l.Close() // the file below is a duplicate
	o := Opened{Handle: &pluginpb.Handle{Id: network + ":" + l.Addr().String()}}
	switch l := l.(type) {
	case *net.TCPListener:
		o.File, err = l.File()
	case *net.UnixListener:
		l.SetUnlinkOnClose(false)
		o.Release = func() error { return ignoreMissing(os.Remove(addr)) }
		if err = os.Chmod(addr, 0o660); err == nil {
			o.File, err = l.File()
		}
	}
	if err != nil {
		return Opened{}, fmt.Errorf("listen: %w", err)
	}
	return o, nil
}

// freebind lets a listener have an address that is not there yet: in a namespace of its own the plugin gives the links
// their addresses itself, after core has handed it the socket.
func freebind(network, _ string, c syscall.RawConn) (err error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
	return errors.Join(err, cerr)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
