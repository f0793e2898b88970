package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func pair(t *testing.T) (*Control, *Control) {
	t.Helper()
	core, theirs, err := ControlPair()
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := NewControl(theirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { core.Close(); plugin.Close() })
	return core, plugin
}

func TestControl(t *testing.T) {
	core, plugin := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := core.Send(Message{Kind: KindHandle, Name: "disk"}, w, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	m, f, err := plugin.Receive()
	if err != nil || m.Kind != KindHandle || m.Name != "disk" {
		t.Fatalf("received %+v, %v", m, err)
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %x, %v: a fork of the plugin would inherit it", flags, err)
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Error(err)
	}
	f.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "x" {
		t.Errorf("through the pipe: %q, %v", b, err)
	}
	core.Close()
	if _, _, err := plugin.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// TestControlDoesNotBlock: a plugin that reads nothing must not hold core up.
func TestControlDoesNotBlock(t *testing.T) {
	core, _ := pair(t)
	deadline := time.Now().Add(200 * time.Millisecond)
	var err error
	for err == nil {
		err = core.Send(Message{Kind: KindHandle, Name: "x"}, os.Stdin, deadline)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.ETOOMANYREFS) {
		t.Errorf("send: %v", err)
	}
}

// TestControlRefuses messages that are not ours, and leaks none of their descriptors.
func TestControlRefuses(t *testing.T) {
	for _, c := range []struct {
		data string
		fds  int
	}{{"{}", 1}, {"", 1}, {`{"kind":"handle","name":"x"}`, 0}, {`{"kind":"handle","name":"x"}`, 2}, {strings.Repeat(" ", maxControl+1), 1}} {
		core, plugin := pair(t)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fds := make([]int, c.fds)
		for i := range fds {
			fds[i] = int(w.Fd())
		}
		var oob []byte
		if c.fds > 0 {
			oob = unix.UnixRights(fds...)
		}
		if _, _, err := core.conn.WriteMsgUnix([]byte(c.data), oob, nil); err != nil {
			t.Fatal(err)
		}
		if m, _, err := plugin.Receive(); err == nil {
			t.Errorf("%.20q with %d descriptors is taken as %+v", c.data, c.fds, m)
		}
		w.Close()
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%.20q: a descriptor is left open", c.data)
		}
		r.Close()
	}
}

func TestBootstrap(t *testing.T) {
	f, err := (&Bootstrap{Name: "gateway", CA: []byte{1}}).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); err == nil {
		t.Error("the memfd is not sealed")
	}
	b, err := ReadBootstrap(f)
	if err != nil || b.Name != "gateway" || !bytes.Equal(b.CA, []byte{1}) {
		t.Errorf("read %+v, %v", b, err)
	}
}

// TestLogPipe: the writer survives the loss of the reader, and a full pipe.
func TestLogPipe(t *testing.T) {
	r, w, err := LogPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := unix.SetNonblock(int(w.Fd()), true); err != nil {
		t.Fatal(err)
	}
	s := &Stderr{fd: int(w.Fd())}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	if n, err := s.Write(line); n != len(line) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	r.Close()
	for range 200 {
		if n, err := s.Write(line); n != len(line) || err != nil {
			t.Fatalf("write without a reader: %d, %v", n, err)
		}
	}
	if s.Dropped() == 0 {
		t.Error("200 KiB fit into a pipe that nobody reads")
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"kind":"handle","name":"disk"}`))
	f.Add([]byte(`{"kind":"host"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMessage(data)
		if err == nil && m.Kind == KindHandle && m.Name == "" {
			t.Error("a handle without a name")
		}
	})
}

func FuzzReadBootstrap(f *testing.F) {
	f.Add([]byte(`{"name":"gateway","ca":"AA==","cert":"AA==","key":"AA=="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ReadBootstrap(bytes.NewReader(data))
		if err != nil {
			return
		}
		if b.Name == "" {
			t.Error("no name")
		}
		_, _ = b.ServerTLS() // must not panic
	})
}

// TestPlain: people read what was said, programs find the code.
func TestPlain(t *testing.T) {
	err := fmt.Errorf("invoke: %w", Plain(status.Error(codes.Aborted, "there is no volume x")))
	if err.Error() != "invoke: there is no volume x" || status.Code(err) != codes.Aborted {
		t.Errorf("%q has the code %s", err, status.Code(err))
	}
	if err := Plain(context.Canceled); err.Error() != "context canceled" || !errors.Is(err, context.Canceled) {
		t.Errorf("an error that gRPC did not make: %q", err)
	}
}
