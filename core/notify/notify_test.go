package notify

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Message
	}{
		{"READY=1\nSTATUS=3 volumes", Message{Ready: true, Status: "3 volumes"}},
		{"WATCHDOG=1", Message{Watchdog: true}},
		{"WATCHDOG=trigger\n", Message{Trigger: true}},
		{"RELOADING=1\nMONOTONIC_USEC=5\nSTOPPING=1", Message{Reloading: true, Stopping: true}},
		{"", Message{}},
		{"READY\n=\n\x00=\nREADY=yes\nSTATUS=\xff", Message{Status: "?"}},
	} {
		if d := cmp.Diff(c.want, Parse(c.in)); d != "" {
			t.Errorf("parse %q: %s", c.in, d)
		}
	}
}

// TestServer speaks with go-systemd's client, and with a rude one.
func TestServer(t *testing.T) {
	s, err := Listen(filepath.Join(t.TempDir(), "notify"))
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan Message, 8)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(func(m Message) { got <- m }) }()

	t.Setenv("NOTIFY_SOCKET", s.Path())
	if ok, err := daemon.SdNotify(false, daemon.SdNotifyReady); !ok || err != nil {
		t.Fatalf("notify: %v, %v", ok, err)
	}
	if m := <-got; !m.Ready || m.PID != os.Getpid() {
		t.Errorf("got %+v", m)
	}

	// Descriptors that are sent along must not stay open here.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.Path(), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		sendErr = unix.Sendmsg(int(fd), []byte("FDSTORE=1\nSTATUS=x"), unix.UnixRights(int(w.Fd())), nil, 0)
	})
	if err := errors.Join(err, sendErr); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.Status != "x" {
		t.Errorf("got %+v", m)
	}
	w.Close()
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the writing end is still open: %d, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("READY=1\nSTATUS=x")
	f.Add("WATCHDOG=trigger")
	f.Fuzz(func(t *testing.T, s string) {
		m := Parse(s)
		if m.PID != 0 {
			t.Error("a message names its own sender")
		}
	})
}
