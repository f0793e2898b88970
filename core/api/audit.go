package api

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"connectrpc.com/connect"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
)

// AuditTrail is what Plugins.Logs is asked for to get the audit trail; no plugin can have this name. It is not followed.
const AuditTrail = "core/audit"

const (
	quickCall = 30 * time.Second
	// slowCall is for what waits on disks, drains or plugins.
	slowCall = 5 * time.Minute
)

// auditor bounds the time of each call and writes one line for each that may change something.
type auditor struct{ s *Server }

var _ connect.Interceptor = auditor{}

func (a auditor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		spec := req.Spec()
		ctx, cancel := context.WithTimeout(ctx, timeLimit(spec))
		defer cancel()
		if spec.IdempotencyLevel == connect.IdempotencyNoSideEffects {
			reply, err := next(ctx, req)
			return reply, wire(err)
		}
		// The handler of Invoke alone knows whether the method changes something.
		note := &auditNote{target: target(req.Any())}
		ctx = context.WithValue(ctx, auditNoteKey{}, note)
		begin := time.Now()
		reply, err := next(ctx, req)
		err = wire(err)
		if !note.skip {
			outcome := err
			if outcome == nil {
				outcome = refused(reply.Any())
			}
			a.s.audit(ctx, spec.Procedure, note.target, time.Since(begin), outcome)
		}
		return reply, err
	}
}

func timeLimit(spec connect.Spec) time.Duration {
	if spec.IdempotencyLevel == connect.IdempotencyNoSideEffects || spec.Procedure == apipbconnect.AccessEnrolProcedure {
		return quickCall
	}
	return slowCall
}

func (a auditor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return wire(next(ctx, conn))
	}
}

func (a auditor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// refused finds a call that went through and changed nothing.
func refused(reply any) error {
	if r, ok := reply.(*apipb.ApplyConfigReply); ok && !r.GetApplied() && len(r.GetDiagnostics()) > 0 {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("the configuration has %d findings", len(r.GetDiagnostics())))
	}
	return nil
}

// auditNote is how a handler tells the auditor what only it knows.
type (
	auditNote struct {
		skip   bool
		target string
	}
	auditNoteKey struct{}
)

// auditTarget replaces what the request says by what the handler found out.
func auditTarget(ctx context.Context, target string) {
	if n, ok := ctx.Value(auditNoteKey{}).(*auditNote); ok {
		n.target = target
	}
}

// skipAudit is called by a handler that finds out that its call changes nothing.
func skipAudit(ctx context.Context) {
	if n, ok := ctx.Value(auditNoteKey{}).(*auditNote); ok {
		n.skip = true
	}
}

// audit writes one line. It never holds what was sent: configurations and tokens are secret.
func (s *Server) audit(ctx context.Context, procedure, target string, took time.Duration, err error) {
	id := Caller(ctx)
	outcome, level := "ok", slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("procedure", procedure), slog.String("caller", id.Name),
		slog.String("role", id.Role.String()), slog.String("via", id.Via),
	}
	if target != "" {
		attrs = append(attrs, slog.String("target", target))
	}
	if err != nil {
		outcome, level = connect.CodeOf(err).String(), slog.LevelWarn
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	attrs = append(attrs, slog.String("outcome", outcome), slog.Duration("took", took))
	s.log.LogAttrs(ctx, level, "audit", attrs...)
}

// target names what a request acts on, for the log.
func target(request any) string {
	switch r := request.(type) {
	case *apipb.InvokeRequest:
		return r.GetPlugin() + "/" + r.GetMethod()
	case *apipb.PowerRequest:
		return r.GetAction().String()
	case *apipb.CreateTokenRequest:
		return r.GetRole()
	case interface{ GetPlugin() string }:
		return r.GetPlugin()
	case interface{ GetSelector() string }:
		return r.GetSelector()
	case interface{ GetName() string }:
		return r.GetName()
	}
	return ""
}
