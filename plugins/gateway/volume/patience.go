package volume

import (
	"context"
	"errors"
	"time"
)

var errSilent = errors.New("store does not answer")

// longestWait bounds the patience of a fetch, in ReadTimeouts.
const longestWait = 20

// untilSilent is a context that ends when the store has answered nobody for as long as limit. On a thin line the
// requests of one client wait for each other for longer than that, and nothing is wrong. end releases it.
func untilSilent(parent context.Context, limit time.Duration, answered func() time.Time) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(parent)
	begun := time.Now()
	var watch *time.Timer
	watch = time.AfterFunc(longestWait*limit, func() {
		patience := limit - min(time.Since(answered()), time.Since(begun))
		if patience <= 0 || time.Since(begun) >= longestWait*limit {
			cancel(errSilent)
		} else if ctx.Err() == nil {
			watch.Reset(patience)
		}
	})
	watch.Reset(limit)
	return ctx, func() {
		cancel(nil)
		watch.Stop()
	}
}
