package remote

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	longPause = 5 * time.Second
	// longProbe is how long the others wait for the outcome of one call that tries the store.
	longProbe = 30 * time.Second
)

// breaker holds calls back while the store does not answer.
type breaker struct {
	first time.Duration // pause after the first failure

	mu       sync.Mutex
	failures int           // in a row, counting calls that were under way together as one
	probing  bool          // one caller tries, the others wait for its outcome
	until    time.Time     // nobody tries before
	since    time.Time     // first failure in a row
	last     error         // the latest
	woken    chan struct{} // closed when those who wait must look again
	answered time.Time     // when it last did, or some of an answer came
}

// Health of the store as last seen.
type Health struct {
	Down  bool
	Since time.Time // of the first failure, when down
	Err   error     // the latest failure, when down
}

func (b *breaker) health() Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Health{Down: b.failures > 0, Since: b.since, Err: b.last}
}

// wait returns when the caller may try, or with the end of ctx.
func (b *breaker) wait(ctx context.Context) error {
	for {
		b.mu.Lock()
		if b.failures == 0 {
			b.mu.Unlock()
			return nil
		}
		pause := time.Until(b.until)
		if pause <= 0 {
			b.probing, b.until = true, time.Now().Add(longProbe)
			b.mu.Unlock()
			return nil
		}
		if b.woken == nil {
			b.woken = make(chan struct{})
		}
		woken := b.woken
		b.mu.Unlock()
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-woken:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		t.Stop()
	}
}

func (b *breaker) report(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.failures, b.probing, b.last, b.answered = 0, false, nil, time.Now()
		b.wake()
		return
	}
	b.last = err
	if b.failures > 0 && !b.probing {
		return // was under way when the first one failed
	}
	if b.failures == 0 {
		b.since = time.Now()
	}
	b.failures++
	b.probing = false
	pause := min(longPause, b.first<<min(b.failures-1, 10))
	// Half of the pause is random, so that many gateways do not come back in step.
	b.until = time.Now().Add(pause/2 + rand.N(pause/2))
	b.wake() // the pause may be over sooner than they would look again
}

// wake lets those who wait look again. The caller holds mu.
func (b *breaker) wake() {
	if b.woken != nil {
		close(b.woken)
		b.woken = nil
	}
}

// pass lets another caller try at once in the place of one that gave up.
func (b *breaker) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing, b.until = false, time.Now()
	b.wake()
}

// moved notes that a call that has not returned yet is getting on.
func (b *breaker) moved() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered = time.Now()
}

// try calls fn once. The store itself ends a call of which nothing moves.
func (b *breaker) try(ctx context.Context, fn func(context.Context) error) error {
	err := fn(objstore.WithProgress(ctx, b.moved))
	if ctx.Err() != nil {
		b.pass() // says nothing about the store
		return err
	}
	if transient(err) {
		b.report(err)
	} else {
		b.report(nil)
	}
	return err
}

// retry calls fn until it succeeds, fails for good, or ctx ends; then it returns the last failure.
func (b *breaker) retry(ctx context.Context, fn func(context.Context) error) error {
	var last error
	for {
		if err := b.wait(ctx); err != nil {
			return errors.Join(err, last)
		}
		if last = b.try(ctx, fn); !transient(last) {
			return last
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), last)
		}
	}
}

// transient reports whether it is worth to wait for the store: it does not answer, or refuses for what somebody can put
// right. The error says what, and stands in Health.
func transient(err error) bool {
	return errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, objstore.ErrRefused) || errors.Is(err, context.DeadlineExceeded)
}

// optional makes a refusal final, for what can be left undone: a key that may not delete or list must not hold uploads
// up.
func optional(err error) error {
	if errors.Is(err, objstore.ErrRefused) {
		return errors.New(err.Error())
	}
	return err
}
