package boot

import (
	"context"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSealed(t *testing.T) {
	fd, err := sealed("test", []byte("report"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, 10)
	if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != "report" {
		t.Errorf("read %q %v", b[:n], err)
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); err == nil {
		t.Error("a sealed report was written")
	}
	if err := unix.Ftruncate(fd, 0); err == nil {
		t.Error("a sealed report was truncated")
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		t.Errorf("flags %#x %v: it would not survive exec", flags, err)
	}
}

func TestConfirm(t *testing.T) {
	for _, c := range []struct {
		typed string
		yes   bool
	}{{"provision\n", true}, {" provision \r\n", true}, {"yes\n", false}, {"\n", false}, {"", false}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		con := &console{out: &out, in: r}
		if _, err := w.WriteString(c.typed); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := con.confirm(t.Context(), "really?", "provision"); got != c.yes {
			t.Errorf("%q: %v", c.typed, got)
		}
		if !strings.HasPrefix(out.String(), "ratchet: really?") {
			t.Errorf("said %q", out.String())
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// Nobody answers.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if (&console{out: &strings.Builder{}, in: r}).confirm(ctx, "?", "provision") {
		t.Error("silence was taken for a yes")
	}
}

func TestMainRefuses(t *testing.T) {
	if Main(nil) != 2 {
		t.Error("init ran outside of process 1")
	}
}
