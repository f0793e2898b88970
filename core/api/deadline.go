package api

import (
	"context"
	"net/http"
	"time"
)

type deadlineKey struct{}

// withBodyDeadline gives the caller limited time to send its request.
func withBodyDeadline(ctx context.Context, w http.ResponseWriter, limit time.Duration) context.Context {
	rc := http.NewResponseController(w)
	// The error is "not supported", from a handler in somebody else's server; then there is none.
	_ = rc.SetReadDeadline(time.Now().Add(limit))
	return context.WithValue(ctx, deadlineKey{}, rc)
}

// bodyRead takes the deadline back. net/http goes on reading while a call runs, to notice
// that the caller has gone, and would end a slow call when that read runs into the deadline.
func bodyRead(ctx context.Context) {
	if rc, ok := ctx.Value(deadlineKey{}).(*http.ResponseController); ok {
		_ = rc.SetReadDeadline(time.Time{})
	}
}
