package volume

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A fetch is given up when the store is silent, not when its line is thin, and not much later than that.
func TestUntilSilent(t *testing.T) {
	const limit = 30 * time.Second
	for _, c := range []struct {
		name  string
		every time.Duration // an answer to somebody else, 0 for none
		until time.Duration // no answers after
		want  time.Duration
	}{
		{"silent from the start", 0, 0, limit},
		{"thin line", 29 * time.Second, 5 * time.Minute, 290*time.Second + limit},
		{"line of one answer in 31 s", 31 * time.Second, 5 * time.Minute, limit},
		{"never its turn", time.Second, time.Hour, longestWait * limit},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				answered := func() time.Time {
					now := min(time.Since(begun), c.until)
					if c.every == 0 || now < c.every {
						return time.Time{}
					}
					return begun.Add(now - now%c.every)
				}
				ctx, end := untilSilent(t.Context(), limit, answered)
				defer end()
				<-ctx.Done()
				if took := time.Since(begun); took != c.want || !errors.Is(context.Cause(ctx), errSilent) {
					t.Errorf("given up after %s: %v; want %s", took, context.Cause(ctx), c.want)
				}
			})
		})
	}
	t.Run("landed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, end := untilSilent(t.Context(), limit, func() time.Time { return time.Time{} })
			end()
			time.Sleep(2 * limit) // the bubble's clock
			if errors.Is(context.Cause(ctx), errSilent) {
				t.Error("a fetch that has landed was given up")
			}
		})
	})
}
