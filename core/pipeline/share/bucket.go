package share

import "time"

// Bucket meters bandwidth. Buckets form a tree: what goes through one goes through its parents as well. A bucket may
// send at its assured rate whatever the others do, and beyond it, up to its ceiling, as long as its parent has tokens
// that nobody uses. The caller passes the time, from one clock that does not go back, and serves those who may send by
// their assured rate before those who borrow.
//
// Something is sent whole when there is any token at all, and the debt is waited for afterwards: so in a window of time T
// a bucket lets through at most ceiling × (T + 50 ms) and one item.
type Bucket struct {
	parent        *Bucket
	assured, most meter
	limited       bool
}

// burst is how long unused tokens are kept: two turns of a scheduler that is late.
const burst = 50 * time.Millisecond

// meter is a token bucket with debt.
type meter struct {
	rate   float64 // bytes a second
	tokens float64
	at     time.Duration
}

func (m *meter) refill(now time.Duration) {
	m.tokens = min(m.rate*burst.Seconds(), m.tokens+m.rate*(now-m.at).Seconds())
	m.at = now
}

func (m *meter) set(now time.Duration, rate float64) {
	if rate == m.rate {
		return
	}
	m.refill(now)
	// A debt is paid at the rate it was made: a higher rate must not be spent on it, a lower one not be ruined by it.
	if m.tokens < 0 && m.rate > 0 {
		m.tokens *= rate / m.rate
	}
	m.rate = rate
	m.tokens = min(m.tokens, rate*burst.Seconds())
}

// wait is how long until there are tokens.
func (m *meter) wait(now time.Duration) time.Duration {
	m.refill(now)
	switch {
	case m.tokens > 0:
		return 0
	case m.rate <= 0:
		return never
	}
	// One nanosecond more: there has to be something in it then, not just nothing missing.
	return time.Duration(-m.tokens/m.rate*float64(time.Second)) + 1
}

// never is further away than anything that is waited for.
const never = 1 << 62

// NewBucket makes a bucket under a parent, which is nil for the root. Without rates it lets everything through that
// its parents do.
func NewBucket(parent *Bucket) *Bucket { return &Bucket{parent: parent} }

// Set changes the rates from now on. A ceiling of 0 is none of its own. The root has a ceiling only.
func (b *Bucket) Set(now time.Duration, assured, ceiling float64) {
	b.assured.set(now, assured)
	b.most.set(now, ceiling)
	b.limited = ceiling > 0
}

// Wait is how long until something may be sent: by the assured rate, and by borrowing. The second is never longer.
func (b *Bucket) Wait(now time.Duration) (assured, borrowing time.Duration) {
	for at := b; at != nil; at = at.parent {
		if at.limited {
			borrowing = max(borrowing, at.most.wait(now))
		}
	}
	if b.parent == nil || !b.bounded() {
		return borrowing, borrowing
	}
	return max(borrowing, b.assured.wait(now)), borrowing
}

// bounded reports whether any ceiling is above the bucket; without one nobody has to borrow.
func (b *Bucket) bounded() bool {
	for at := b.parent; at != nil; at = at.parent {
		if at.limited {
			return true
		}
	}
	return false
}

// Take sends n bytes. Borrowed bytes are not charged to the assured rate: they were nobody's.
func (b *Bucket) Take(now time.Duration, n float64, borrowed bool) {
	if !borrowed && b.assured.rate > 0 {
		b.assured.refill(now)
		b.assured.tokens -= n
	}
	for at := b; at != nil; at = at.parent {
		if at.limited {
			at.most.refill(now)
			at.most.tokens -= n
		}
	}
}
