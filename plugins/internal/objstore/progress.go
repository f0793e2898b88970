package objstore

import "context"

type progressKey struct{}

// WithProgress returns a context for calls of a Store during which moved is called, from any goroutine, whenever some bytes
// of an answer have come over the network. On a thin line that is long before any of the calls returns.
func WithProgress(ctx context.Context, moved func()) context.Context {
	return context.WithValue(ctx, progressKey{}, moved)
}

// Moved is for drivers: some bytes of the answer to a call have come, whose context is ctx.
func Moved(ctx context.Context) {
	if moved, ok := ctx.Value(progressKey{}).(func()); ok {
		moved()
	}
}
