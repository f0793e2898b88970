package api_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/client"
	"github.com/ratchetos/ratchet/core/api/pki"
)

func TestListen(t *testing.T) {
	dir := t.TempDir()
	for _, bad := range []string{"", "tcp", "8443", "unix:relative", "udp::1", "tcp:nowhere:x"} {
		if ln, err := api.Listen(bad, -1); err == nil {
			ln.Close()
			t.Errorf("listen on %q went through", bad)
		}
	}
	path := dir + "/sub/api.sock"
	ln, err := api.Listen("unix:"+path, os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Listen("unix:"+path, -1); err == nil {
		t.Error("a live socket was taken over")
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	ln.Close()
	again, err := api.Listen("unix:"+path, -1)
	if err != nil {
		t.Fatalf("socket of a dead server: %v", err)
	}
	again.Close()
	file := dir + "/file"
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ln, err := api.Listen("unix:"+file, -1); err == nil {
		ln.Close()
		t.Error("a socket took the place of a file")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// TestGarbage throws what a scanner, a confused client and an enemy send at both listeners.
func TestGarbage(t *testing.T) {
	b := start(t)
	noise := make([]byte, 64<<10)
	rand.Read(noise)
	garbage := [][]byte{
		noise, []byte("\x16\x03\x01\xff\xff"), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		[]byte("POST /ratchet.api.v1.System/Power HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{\"action\":"),
		[]byte("POST /ratchet.api.v1.System/Power HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"),
		append([]byte("GET /"), bytes.Repeat([]byte("a"), 64<<10)...),
		{0},
		nil,
	}
	var wg sync.WaitGroup
	for _, target := range [][2]string{{"tcp", b.TCP}, {"unix", b.Socket}} {
		for _, g := range garbage {
			wg.Go(func() {
				conn, err := net.Dial(target[0], target[1])
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(5 * time.Second))
				_, _ = conn.Write(g) // the server may hang up half-way
				if c, ok := conn.(interface{ CloseWrite() error }); ok {
					_ = c.CloseWrite()
				}
				if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the connection stayed open after %.20q", target[0], g)
				}
			})
		}
	}
	wg.Wait()
	if got := b.backend.Calls(); len(got) > 0 {
		t.Errorf("garbage changed the box: %v", got)
	}
	c := b.client(t, client.Options{Address: b.TCP, Credentials: b.credentials(t, pki.Viewer)})
	if _, err := c.System.Status(t.Context(), &apipb.StatusRequest{}); err != nil {
		t.Errorf("status after the garbage: %v", err)
	}
}
