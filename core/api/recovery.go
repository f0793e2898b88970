package api

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/apipb/apipbconnect"
)

// RecoveryBackend is the part of Backend that leaves word for the next boot.
type RecoveryBackend interface {
	Recovery(ctx context.Context) (*apipb.ShowRecoveryReply, error)
	EnterRecovery(ctx context.Context) error
	RequestRecovery(ctx context.Context, text string) (*apipb.RecoveryReply, error)
}

type recoveries struct{ *Server }

var _ apipbconnect.RecoveryHandler = recoveries{}

func (s recoveries) Show(ctx context.Context, _ *apipb.ShowRecoveryRequest) (*apipb.ShowRecoveryReply, error) {
	return s.backend.Recovery(ctx)
}

func (s recoveries) Enter(ctx context.Context, _ *apipb.EnterRecoveryRequest) (*apipb.EnterRecoveryReply, error) {
	return &apipb.EnterRecoveryReply{}, s.backend.EnterRecovery(ctx)
}

func (s recoveries) Request(ctx context.Context, r *apipb.RecoveryRequest) (*apipb.RecoveryReply, error) {
	if r.GetText() == "" {
		return nil, fmt.Errorf("%w: there is no request in it; make one with: ratchetctl recovery sign", ErrInvalid)
	}
	return s.backend.RequestRecovery(ctx, r.GetText())
}
