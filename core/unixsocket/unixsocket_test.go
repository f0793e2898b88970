package unixsocket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemoveStale: a socket that somebody serves is not removed, also when he is too busy to answer or it is of another kind.
func TestRemoveStale(t *testing.T) {
	dir := t.TempDir()
	dead, live, full, packets := filepath.Join(dir, "dead"), filepath.Join(dir, "live"), filepath.Join(dir, "full"), filepath.Join(dir, "packets")
	for _, path := range []string{dead, live} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if path == dead { // as after kill -9
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			l.Close()
		}
	}
	busy(t, full)
	p, err := net.ListenPacket("unixgram", packets)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, stale := range map[string]bool{filepath.Join(dir, "none"): true, dead: true, live: false, full: false, packets: false, file: false} {
		err := RemoveStale(path)
		_, left := os.Stat(path)
		if (err == nil) != stale || (left != nil) != stale {
			t.Errorf("%s: %v, %v", path, err, left)
		}
	}
}

// busy is a server of a unix socket that takes no more connections for now.
func busy(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.Dial("unix", path)
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
	}
}
