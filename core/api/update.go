package api

import (
	"context"
	"net/url"
	"time"

	"connectrpc.com/connect"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
)

// UpdateBackend is the part of Backend for the image.
type UpdateBackend interface {
	UpdateStatus(ctx context.Context) (*apipb.UpdateStatusReply, error)
	// StageUpdate adds a piece to the bundle that ApplyUpdate takes and returns its size so far.
	StageUpdate(ctx context.Context, offset uint64, data []byte) (uint64, error)
	// ApplyUpdate and SettleUpdate emit progress and the result last. A failed emit does not end them once
	// their attempt is open.
	ApplyUpdate(ctx context.Context, request *apipb.ApplyUpdateRequest, emit func(*apipb.UpdateProgress) error) error
	SettleUpdate(ctx context.Context, emit func(*apipb.UpdateProgress) error) error
	RollbackUpdate(ctx context.Context, reboot bool) (*apipb.RollbackUpdateReply, error)
}

type updates struct{ *Server }

var _ apipbconnect.UpdateHandler = updates{}

func (s updates) Status(ctx context.Context, _ *apipb.UpdateStatusRequest) (*apipb.UpdateStatusReply, error) {
	return s.backend.UpdateStatus(ctx)
}

func (s updates) Stage(ctx context.Context, r *apipb.StageUpdateRequest) (*apipb.StageUpdateReply, error) {
	if r.GetOffset() != 0 {
		skipAudit(ctx) // one line for a bundle, not one for each piece
	}
	size, err := s.backend.StageUpdate(ctx, r.GetOffset(), r.GetData())
	return &apipb.StageUpdateReply{Size: size}, err
}

func (s updates) Apply(ctx context.Context, r *apipb.ApplyUpdateRequest, out *connect.ServerStream[apipb.UpdateProgress]) error {
	what := r.GetUrl()
	if what == "" {
		what = "staged bundle"
	} else if u, err := url.Parse(what); err == nil {
		what = u.Redacted()
	}
	return s.changes(ctx, apipbconnect.UpdateApplyProcedure, what, func() error { return s.backend.ApplyUpdate(ctx, r, out.Send) })
}

func (s updates) Settle(ctx context.Context, _ *apipb.SettleUpdateRequest, out *connect.ServerStream[apipb.UpdateProgress]) error {
	return s.changes(ctx, apipbconnect.UpdateSettleProcedure, "", func() error { return s.backend.SettleUpdate(ctx, out.Send) })
}

// changes audits a stream that changes something; streams are not audited as calls are.
func (s updates) changes(ctx context.Context, procedure, what string, do func() error) error {
	begin := time.Now()
	err := wire(do())
	s.audit(ctx, procedure, what, time.Since(begin), err)
	return err
}

func (s updates) Rollback(ctx context.Context, r *apipb.RollbackUpdateRequest) (*apipb.RollbackUpdateReply, error) {
	return s.backend.RollbackUpdate(ctx, r.GetReboot())
}
