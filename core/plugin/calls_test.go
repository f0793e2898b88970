package plugin

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// waiter is a feature whose calls wait until they are told to end.
type waiter struct {
	Feature
	called     chan struct{}
	configured int
}

func (w *waiter) Configure(context.Context, Section) error {
	w.configured++
	return nil
}

func (w *waiter) Invoke(ctx context.Context, _ string, _ []byte) ([]byte, error) {
	w.called <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestCallsGiveWay: a call that waits for long holds up neither a change of the configuration nor the calls after it.
func TestCallsGiveWay(t *testing.T) {
	w := &waiter{called: make(chan struct{})}
	s := &server{feature: w, started: true, calls: calls{grace: time.Millisecond}}
	ended := make(chan error, 1)
	invoke := func(ctx context.Context) {
		_, err := s.Invoke(ctx, &pluginpb.InvokeRequest{})
		ended <- err
	}
	go invoke(t.Context())
	<-w.called
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := s.Configure(ctx, &pluginpb.ConfigDocument{}); err != nil || w.configured != 1 || ctx.Err() != nil {
		t.Errorf("configured %d times: %v", w.configured, err)
	}
	if err := <-ended; status.Code(err) != codes.Unavailable || wire.Plain(err).Error() != wire.GivesWay {
		t.Errorf("the call ended with %v", err)
	}
	// One that begins afterwards goes on, until its caller has enough.
	ctx, hangUp := context.WithCancel(t.Context())
	go invoke(ctx)
	<-w.called
	hangUp()
	if err := <-ended; status.Code(err) != codes.Aborted {
		t.Errorf("the next call ended with %v", err)
	}
}
