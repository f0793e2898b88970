package nbdlink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// TestDial shakes hands with the gateway's own server.
func TestDial(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	set := new(nbd.Set)
	if err := set.Add(&nbd.Export{Name: "vm", Backend: nbdtest.NewMemory(1 << 20)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&nbd.Server{Exports: set, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, l) }()
	e, err := Query(t.Context(), path, "vm")
	if err != nil || e.Size != 1<<20 || e.BlockSize == 0 || e.Flags&1 == 0 {
		t.Errorf("query: %+v, %v", e, err)
	}
	f, same, err := Dial(t.Context(), path, "vm")
	if err != nil {
		t.Fatal(err)
	}
	if same != e {
		t.Errorf("dial says %+v, query %+v", same, e)
	}
	// What the kernel would do: a FLUSH, whose answer is the first byte on the socket.
	request := make([]byte, 28)
	be.PutUint32(request, 0x25609513)
	be.PutUint16(request[6:], 3)
	be.PutUint64(request[8:], 42)
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	answer := make([]byte, 16)
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, answer); err != nil || be.Uint32(answer) != 0x67446698 || be.Uint32(answer[4:]) != 0 || be.Uint64(answer[8:]) != 42 {
		t.Errorf("answer % x, %v", answer, err)
	}
	c.Close()
	refused := new(Refused)
	if _, _, err := Dial(t.Context(), path, "other"); !errors.As(err, &refused) || !strings.Contains(err.Error(), "other") {
		t.Errorf("dial of what is not there: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := Query(t.Context(), path, "vm"); err == nil {
		t.Error("query of nobody")
	}
}

func TestFind(t *testing.T) {
	sys := t.TempDir()
	for name, text := range map[string]string{
		"block/nbd0/backend": "ratchet/vm\n", "block/nbd0/size": "2048\n", "block/nbd1/size": "0\n", "block/sda/size": "4\n", "block/nbdx/backend": "x",
	} {
		path := filepath.Join(sys, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Find(sys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Found{{Index: 0, Backend: "ratchet/vm", Size: 1 << 20}}, got); diff != "" {
		t.Error(diff)
	}
}

// talk is a server that says what it was given.
type talk struct {
	io.Reader
	io.Writer
}

func greeting() []byte {
	b := be.AppendUint64(nil, magicInit)
	b = be.AppendUint64(b, magicOption)
	return be.AppendUint16(b, flagNewstyle|flagNoZeroes)
}

func optReply(opt, kind uint32, body []byte) []byte {
	b := be.AppendUint64(nil, magicReply)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, kind)
	b = be.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

// FuzzHandshake: no server makes it fail other than with an error, or read on into what is the kernel's.
func FuzzHandshake(f *testing.F) {
	size := be.AppendUint16(be.AppendUint64(be.AppendUint16(nil, infoExport), 1<<20), 1)
	good := append(greeting(), append(optReply(optGo, repInfo, size), optReply(optGo, repAck, nil)...)...)
	f.Add(good, 3)
	f.Add(append(greeting(), optReply(optGo, repError+6, []byte("no such export"))...), 0)
	f.Add([]byte("SSH-2.0-OpenSSH\r\n"), 0)
	f.Fuzz(func(t *testing.T, data []byte, more int) {
		if more < 0 || more > 64 {
			return
		}
		r := bytes.NewReader(append(bytes.Clone(data), make([]byte, more)...))
		e, err := handshake(talk{r, io.Discard}, "vm", optGo)
		if err != nil {
			return
		}
		if e.Size == 0 {
			t.Error("an export without size")
		}
		if bytes.Equal(data, good) && r.Len() != more {
			t.Errorf("%d bytes are left of %d", r.Len(), more)
		}
	})
}
