package apitest

import (
	"context"
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
)

// BoxName is the Name that the box shows for requests.
const BoxName = "000b3d5e8a1f00aa3d5e8a1f00aa3d5e8a1f00aa3d5e8a1f00aa3d5e8a1f00aa3d5e"

// Recovery has a box that refused the last request.
func (b *Backend) Recovery(context.Context) (*apipb.ShowRecoveryReply, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &apipb.ShowRecoveryReply{
		Box: BoxName, Counter: 42, Pending: b.pending, Entering: b.entering,
		Outcome: "validate refused at counter 41: made for another box", Owners: []string{"a1b2c3d4e5f6"},
	}, nil
}

// EnterRecovery is noted.
func (b *Backend) EnterRecovery(context.Context) error {
	b.note("enter recovery")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entering = true
	return nil
}

// RequestRecovery takes everything that looks like a request.
func (b *Backend) RequestRecovery(_ context.Context, text string) (*apipb.RecoveryReply, error) {
	if !strings.HasPrefix(text, "ratchet-request-1.") {
		return nil, fmt.Errorf("%w: not a request", api.ErrInvalid)
	}
	b.note("request %s", strings.SplitN(text, ".", 2)[0])
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = "validate by owner key a1b2c3d4e5f6"
	return &apipb.RecoveryReply{What: "validate", Signer: "a1b2c3d4e5f6"}, nil
}
