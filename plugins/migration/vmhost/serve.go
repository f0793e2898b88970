package vmhost

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/pki"
)

const (
	maxConns  = 128
	maxHeader = 8 << 10
	// beatEvery is how often a stream of events is written to without any: a manager that is gone is noticed by it.
	beatEvery = 15 * time.Second
)

// Serve serves the manager on l, and the operator on the host's own socket, until ctx ends. l is closed.
func (h *Host) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	// The lock on the directory is ours: whoever left this file is gone.
	if err := os.Remove(h.Socket()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("serve: %w", err)
	}
	local, err := net.Listen("unix", h.Socket())
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if err := os.Chmod(h.Socket(), 0o600); err != nil {
		local.Close()
		return fmt.Errorf("serve: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := func(handler http.Handler) *http.Server {
		return &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
			BaseContext: func(net.Listener) context.Context { return ctx },
			ErrorLog:    slog.NewLogLogger(h.o.Log.Handler(), slog.LevelDebug),
		}
	}
	manager, operator := server(h.handler(true)), server(h.handler(false))
	ended := make(chan error, 2)
	go func() { ended <- manager.Serve(tls.NewListener(bounded(l), h.identity.ServerTLS(pki.Manager))) }()
	go func() { ended <- operator.Serve(bounded(local)) }()
	select {
	case <-ctx.Done():
	case err = <-ended:
		ended <- err
	}
	cancel()
	manager.Close()
	operator.Close()
	first, second := <-ended, <-ended
	for _, e := range []error{first, second} {
		if !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// handler has all requests; those of the manager need an epoch.
func (h *Host) handler(manager bool) http.Handler {
	mux := http.NewServeMux()
	look := func(pattern string, f func(ctx context.Context, r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			// An older manager must not decide by what it sees here.
			err := h.fence.check(r.Header.Get(client.EpochHeader))
			var v any
			if err == nil {
				v, err = f(r.Context(), r)
			}
			answer(w, v, err)
		})
	}
	look("/v1/host", func(ctx context.Context, _ *http.Request) (any, error) { return h.Describe(ctx) })
	look("/v1/load", func(context.Context, *http.Request) (any, error) { return readLoad("/proc") })
	look("/v1/vms", func(ctx context.Context, _ *http.Request) (any, error) { return h.List(ctx) })
	look("/v1/vms/{vm}/shape", func(ctx context.Context, r *http.Request) (any, error) { return h.Shape(ctx, r.PathValue("vm")) })
	look("/v1/vms/{vm}/resident", func(_ context.Context, r *http.Request) (any, error) { return h.Resident(r.PathValue("vm")) })
	look("/v1/vms/{vm}/stood-still", func(_ context.Context, r *http.Request) (any, error) { return h.StoodStill(r.PathValue("vm")), nil })
	mux.HandleFunc("GET /v1/events", h.streamEvents)

	order := func(pattern string, f func(w http.ResponseWriter, r *http.Request)) {
		mux.HandleFunc("POST /v1/vms/{vm}/"+pattern, func(w http.ResponseWriter, r *http.Request) {
			if !manager {
				f(w, r)
				return
			}
			ctx, leave, err := h.fence.enter(r.Context(), r.Header.Get(client.EpochHeader))
			if err != nil {
				answer(w, nil, err)
				return
			}
			defer leave()
			f(w, r.WithContext(ctx))
		})
	}
	order("start", do(func(ctx context.Context, vm string, q client.Start) error {
		if q.Shape.VM != vm {
			return fmt.Errorf("start %s: its shape is that of %q", vm, q.Shape.VM)
		}
		return h.Start(ctx, q.Shape, StartOptions{Move: q.Move, Paused: q.Paused})
	}))
	order("settle", do(func(_ context.Context, vm string, q client.Settle) error { return h.Settle(vm, q.Move) }))
	order("end", do(func(ctx context.Context, vm string, q client.End) error { return h.End(ctx, vm, q.Move) }))
	order("plug", do(h.Plug))
	order("unplug", do(func(ctx context.Context, vm string, q client.Unplug) error { return h.Unplug(ctx, vm, q.ID) }))
	order("qmp", func(w http.ResponseWriter, r *http.Request) {
		var q client.Command
		if err := decode(w, r, &q); err != nil {
			answer(w, nil, err)
			return
		}
		v, err := h.command(r.Context(), r.PathValue("vm"), q)
		answer(w, v, err)
	})
	order("channel/{name}", h.serveChannel)
	return mux
}

// do is an order with a body that answers nothing.
func do[T any](f func(ctx context.Context, vm string, q T) error) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		var q T
		err := decode(w, r, &q)
		if err == nil {
			err = f(r.Context(), r.PathValue("vm"), q)
		}
		answer(w, struct{}{}, err)
	}
}

// decode reads a body in full: the connection's end is only noticed after that.
func decode(w http.ResponseWriter, r *http.Request, out any) error {
	if !args.Word(r.PathValue("vm")) {
		return fmt.Errorf("%q is no name of a VM", r.PathValue("vm"))
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, client.MaxBody))
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		p := client.Problem{Kind: client.Refused, Message: err.Error()}
		status = http.StatusUnprocessableEntity
		switch {
		case errors.Is(err, hypervisor.ErrFenced):
			p.Kind, status = client.Fenced, http.StatusPreconditionFailed
		case errors.Is(err, hypervisor.ErrNoSuchVM):
			p.Kind, status = client.NoSuchVM, http.StatusNotFound
		case errors.Is(err, client.ErrExists):
			p.Kind, status = client.Exists, http.StatusConflict
		}
		v = p
	}
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // who does not read the answer asks again
}

// command runs a QMP command of the manager.
func (h *Host) command(ctx context.Context, vm string, q client.Command) (client.Reply, error) {
	m, err := h.machine(vm)
	if err != nil {
		return client.Reply{}, err
	}
	if err := (rules{credentials: h.credentials(), address: h.c.Move.Address}).check(q.Execute, q.Arguments); err != nil {
		return client.Reply{}, err
	}
	var a any
	if len(q.Arguments) > 0 {
		a = q.Arguments
	}
	m.mirrors(q.Execute, q.Arguments)
	var reply client.Reply
	var refused *qmp.Error
	switch q.Execute {
	case "migrate":
		err = m.migrate(ctx, q.Arguments)
	case "migrate_cancel":
		err = m.cancel(ctx)
	case "migrate-incoming", "migrate-recover":
		if err = m.do(ctx, q.Execute, a, &reply.Return); err == nil {
			m.arrives()
		}
	case "block-job-cancel":
		err = m.cancelJob(ctx, q.Arguments)
	case "query-migrate":
		err = m.do(ctx, q.Execute, a, &reply.Return)
		reply.Return = m.because(reply.Return)
	default:
		err = m.do(ctx, q.Execute, a, &reply.Return)
	}
	switch {
	case errors.As(err, &refused):
		reply.Error = &client.CommandError{Class: refused.Class, Desc: refused.Desc}
	case err != nil:
		return client.Reply{}, err
	case reply.Return == nil:
		reply.Return = json.RawMessage("{}")
	}
	return reply, nil
}

func (h *Host) streamEvents(w http.ResponseWriter, r *http.Request) {
	events, stop := h.events.listen()
	defer stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	if control.Flush() != nil {
		return
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		var line []byte
		select {
		case e, ok := <-events:
			if !ok {
				return // the manager connects again and looks anew
			}
			line, _ = json.Marshal(e)
		case <-beat.C:
		case <-r.Context().Done():
			return
		}
		_ = control.SetWriteDeadline(time.Now().Add(beatEvery))
		if _, err := w.Write(append(line, '\n')); err != nil || control.Flush() != nil {
			return
		}
	}
}

func (h *Host) serveChannel(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != client.ChannelProtocol {
		answer(w, nil, errors.New("a channel is an upgrade to "+client.ChannelProtocol))
		return
	}
	name := r.PathValue("name")
	m, guest, err := h.openChannel(r.Context(), r.PathValue("vm"), name)
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer m.channels.give(name, guest)
	defer guest.Close()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+client.ChannelProtocol+"\r\n\r\n"); err != nil {
		return
	}
	splice(r.Context(), conn, guest, buffered.Reader)
}

// limited lets in so many connections at a time; others wait in the backlog.
type limited struct {
	net.Listener
	slots chan struct{}
}

func bounded(l net.Listener) net.Listener { return limited{l, make(chan struct{}, maxConns)} }

func (l limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotted{Conn: c, slots: l.slots}, nil
}

type slotted struct {
	net.Conn
	slots chan struct{}
}

// Close gives the slot back at the first time.
func (c *slotted) Close() error {
	err := c.Conn.Close()
	if !errors.Is(err, net.ErrClosed) {
		<-c.slots
	}
	return err
}
