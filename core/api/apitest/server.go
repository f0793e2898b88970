package apitest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/pki"
)

// Server is a real API server on loopback and on a unix socket.
type Server struct {
	*api.Server
	Authority *pki.Authority
	Tokens    *pki.Tokens
	TCP       string // host:port
	Socket    string // path
}

// Start starts a server that ends with the test; prepare changes it before it listens.
func Start(t testing.TB, dir string, backend api.Backend, log *slog.Logger, prepare ...func(*api.Server)) *Server {
	t.Helper()
	authority, err := pki.Open(filepath.Join(dir, "pki"), pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Authority: authority, Tokens: &pki.Tokens{}, Socket: filepath.Join(dir, "api.sock")}
	s.Server = api.New(api.Options{Backend: backend, Authority: authority, Tokens: s.Tokens, Log: log})
	for _, f := range prepare {
		f(s.Server)
	}
	tcp, err := api.Listen("tcp:127.0.0.1:0", -1)
	if err != nil {
		t.Fatal(err)
	}
	s.TCP = tcp.Addr().String()
	local, err := api.Listen("unix:"+s.Socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for _, ln := range []net.Listener{tcp, local} {
		go func() { ended <- s.Serve(ln) }()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	return s
}
