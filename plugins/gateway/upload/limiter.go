package upload

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Limiter holds uploads to a schedule. An upload goes out whole and those after it wait until the schedule
// would have let it through, so the rate holds over the time of a few objects. A nil Limiter does not limit.
//
// It may be used from many goroutines.
type Limiter struct {
	schedule Schedule
	now      func() time.Time

	mu   sync.Mutex
	free time.Time // when what has gone out so far is through
}

// NewLimiter returns a limiter by the clock given, time.Now when nil.
func NewLimiter(s Schedule, now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{schedule: s, now: now}
}

// reserve books n bytes and returns when they may go.
func (l *Limiter) reserve(n int64) (start time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.free.Before(now) {
		l.free = now
	}
	start = l.schedule.Open(l.free)
	l.free = l.schedule.Done(start, n)
	return start
}

// Wait returns when n bytes may be uploaded, or with the end of ctx. Nobody gets back what a
// cancelled caller has booked; it is no more than one object's time.
func (l *Limiter) Wait(ctx context.Context, n int64) error {
	if l == nil {
		return nil
	}
	start := l.reserve(n)
	for {
		now := l.now()
		// In steps, since a clock that was set does not wake a timer.
		pause := min(start.Sub(now), time.Minute)
		if pause <= 0 {
			if rate, limited := l.schedule.Rate(now); !limited || rate > 0 {
				return nil
			}
			pause = time.Minute
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait for the upload schedule: %w", ctx.Err())
		}
	}
}
