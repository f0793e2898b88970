package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
	"github.com/ratchetos/ratchet/core/api/pki"
)

const (
	// SocketPath is where the API listens on the box itself.
	SocketPath = "/run/ratchet/api.sock"

	maxMessage     = 2 << 20 // a configuration is at most 1 MiB
	maxConnections = 128     // each listener
	maxStreams     = 32      // each HTTP/2 connection
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute

	metricsPath = "/metrics"
	healthPath  = "/healthz"
)

// Options of a server. Backend is needed; TCP listeners also need Authority.
type Options struct {
	Backend   Backend
	Authority *pki.Authority
	// Tokens are the enrolment tokens; share it to print a token at start-up. Nil makes one.
	Tokens *pki.Tokens
	// Log gets the audit lines (message "audit"); slog.Default when nil.
	Log *slog.Logger
}

// Server is the API on any number of listeners.
type Server struct {
	backend   Backend
	authority *pki.Authority
	tokens    *pki.Tokens
	log       *slog.Logger
	http      *http.Server
	// bodyTimeout is a constant but in tests.
	bodyTimeout time.Duration
	// ending is cancelled when Shutdown begins, so that streams that would follow for ever end.
	ending context.Context
}

// New returns a server that does not listen yet.
func New(opts Options) *Server {
	s := &Server{backend: opts.Backend, authority: opts.Authority, tokens: opts.Tokens, log: opts.Log, bodyTimeout: bodyTimeout}
	if s.tokens == nil {
		s.tokens = &pki.Tokens{}
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	ending, end := context.WithCancel(context.Background())
	s.ending = ending

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC clients on the unix socket
	s.http = &http.Server{
		Handler:           s.authorise(s.routes()),
		ConnContext:       withPeer,
		Protocols:         &protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: headerTimeout, // also bounds the TLS handshake
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    32 << 10,
		// A port scan is no news: what net/http says about bad handshakes is for debugging.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.authority != nil {
		s.http.TLSConfig = s.authority.ServerTLS()
	}
	s.http.RegisterOnShutdown(end)
	return s
}

// Serve serves on ln, which it closes, until Shutdown. A unix listener is plain, any other is TLS.
func (s *Server) Serve(ln net.Listener) error {
	var err error
	switch {
	case ln.Addr().Network() == "unix":
		err = s.http.Serve(limit(ln, maxConnections))
	case s.authority == nil:
		ln.Close()
		return fmt.Errorf("serve API on %s: no certificate authority", ln.Addr())
	default:
		err = s.http.ServeTLS(limit(ln, maxConnections), "", "")
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve API on %s: %w", ln.Addr(), err)
}

// Shutdown stops listening, ends streams that follow, and waits for calls until ctx ends; then it cuts them off, and
// the error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("shut API down: %w", errors.Join(err, s.http.Close()))
}

// Handler is the whole API as one handler, for a caller with a server of its own.
func (s *Server) Handler() http.Handler { return s.http.Handler }

func (s *Server) routes() http.Handler {
	opts := []connect.HandlerOption{
		connect.WithReadMaxBytes(maxMessage),
		connect.WithInterceptors(auditor{s}),
	}
	mux := http.NewServeMux()
	mux.Handle(apipbconnect.NewSystemHandler(system{s}, opts...))
	mux.Handle(apipbconnect.NewPluginsHandler(plugins{s}, opts...))
	mux.Handle(apipbconnect.NewConfigHandler(configs{s}, opts...))
	mux.Handle(apipbconnect.NewHardwareHandler(hardware{s}, opts...))
	mux.Handle(apipbconnect.NewCounterHandler(counter{s}, opts...))
	mux.Handle(apipbconnect.NewFirmwareHandler(firmwares{s}, opts...))
	mux.Handle(apipbconnect.NewRecoveryHandler(recoveries{s}, opts...))
	mux.Handle(apipbconnect.NewAdmissionHandler(admissions{s}, opts...))
	mux.Handle(apipbconnect.NewUpdateHandler(updates{s}, opts...))
	mux.Handle(apipbconnect.NewAccessHandler(access{s}, opts...))
	mux.Handle("GET "+metricsPath, s.metrics())
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// authorise runs before anything reads a body.
func (s *Server) authorise(next http.Handler) http.Handler {
	failure := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == healthPath {
			next.ServeHTTP(w, r)
			return
		}
		id := identify(r)
		r = r.WithContext(context.WithValue(r.Context(), identityKey{}, id))
		need, known := requiredRole(r.URL.Path)
		var refusal *connect.Error
		switch {
		case !known:
			http.NotFound(w, r)
			return
		case id.Role >= need:
		case id.Role == pki.None:
			refusal = connect.NewError(connect.CodeUnauthenticated, errors.New("no client certificate of this box; enrol with: ratchetctl login"))
		default:
			refusal = connect.NewError(connect.CodePermissionDenied, fmt.Errorf("needs the role %s, %s is %s", need, id.Name, id.Role))
		}
		if refusal != nil {
			s.audit(r.Context(), r.URL.Path, "", 0, refusal)
			if !failure.IsSupported(r) || failure.Write(w, r, refusal) != nil {
				http.Error(w, refusal.Message(), http.StatusForbidden)
			}
			return
		}
		// The body of a call arrives at once or not at all; net/http takes the deadline back at
		// its end, so that slow calls and streams live on. The error is "not supported", from a
		// handler in somebody else's server; then there is no deadline.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.bodyTimeout))
		r.Body = http.MaxBytesReader(w, r.Body, maxMessage)
		next.ServeHTTP(w, r)
	})
}
