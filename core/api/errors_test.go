package api

import (
	"errors"
	"fmt"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestCode: what a plugin has against a call, or its end, is no fault inside of core.
func TestCode(t *testing.T) {
	for want, err := range map[connect.Code]error{
		connect.CodeAborted:            fmt.Errorf("invoke: %w", status.Error(codes.Aborted, "there is no volume x")),
		connect.CodeCanceled:           fmt.Errorf("invoke: %w", status.Error(codes.Canceled, "context canceled")),
		connect.CodeDeadlineExceeded:   fmt.Errorf("invoke: %w", status.Error(codes.DeadlineExceeded, "too late")),
		connect.CodeInternal:           errors.New("broken"),
		connect.CodeFailedPrecondition: fmt.Errorf("%w: not so", ErrPrecondition),
	} {
		if got := code(err); got != want {
			t.Errorf("%v has the code %s, want %s", err, got, want)
		}
	}
	if got := code(status.Error(codes.Unavailable, "its process ended")); got != connect.CodeAborted {
		t.Errorf("a plugin that ended meanwhile has the code %s, as if the box were away", got)
	}
}
