package upload

import (
	"context"
	"fmt"
	"time"
)

// Limiter holds uploads to a schedule. An upload goes out whole and those after it wait until the schedule
// would have let it through, so the rate holds over the time of a few objects. A nil Limiter does not limit.
//
// The time of day only says which rate holds; how much has got through is counted by the monotonic clock. A clock that is set
// neither holds uploads up nor lets them through.
//
// It may be used from many goroutines.
type Limiter struct {
	schedule Schedule
	now      func() time.Time
	turn     chan struct{} // holds one who waits for the schedule; the others wait for it

	// These belong to who has the turn.
	owed   float64   // bytes that have gone out and that the schedule has not let through yet
	looked time.Time // when that was so
}

// NewLimiter returns a limiter by the clock given, time.Now when nil.
func NewLimiter(s Schedule, now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{schedule: s, now: now, turn: make(chan struct{}, 1)}
}

// Wait returns when n bytes may be uploaded, or with the end of ctx.
func (l *Limiter) Wait(ctx context.Context, n int64) error {
	if l == nil {
		return nil
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for the upload schedule: %w", ctx.Err())
	}
	defer func() { <-l.turn }()
	for {
		pause := l.look()
		if pause <= 0 {
			l.owed += float64(n)
			return nil
		}
		t := time.NewTimer(min(pause, time.Minute)) // a clock that was set does not wake it
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait for the upload schedule: %w", ctx.Err())
		}
	}
}

// look counts what the schedule has let through since the last time, and returns how long nothing may go yet.
func (l *Limiter) look() time.Duration {
	now, looked := l.now(), time.Now()
	if l.owed > 0 {
		l.owed = max(0, l.owed-l.schedule.Through(now.Add(-looked.Sub(l.looked)), now))
	}
	l.looked = looked
	return l.schedule.Open(l.schedule.Done(now, int64(l.owed))).Sub(now)
}
