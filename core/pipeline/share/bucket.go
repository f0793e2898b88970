package share

import "time"

// Bucket is a ceiling for bandwidth. Buckets form a tree: what goes through one goes through its parents as well. A
// bucket says whether something may be sent now; who sends it, of several that could, is decided by [Turns], so what
// one does not use is not kept from the others. The caller passes the time, from one clock that does not go back.
//
// Something is sent whole when there is any token at all, and the debt is waited for afterwards: so in a window of time T
// a bucket lets through at most rate × (T + 50 ms) and one item. The zero value has no ceiling.
type Bucket struct {
	parent *Bucket
	rate   float64 // bytes a second; 0 is without ceiling
	tokens float64 // less than none after something larger was sent
	at     time.Duration
}

// burst is how long unused tokens are kept: as long as a scheduler may be late.
const burst = 50 * time.Millisecond

// NewBucket makes a bucket without a ceiling of its own under a parent, which is nil for the root.
func NewBucket(parent *Bucket) *Bucket { return &Bucket{parent: parent} }

// Set changes the ceiling from now on, in bytes a second; 0 removes it.
func (b *Bucket) Set(now time.Duration, rate float64) {
	if rate == b.rate {
		return
	}
	b.refill(now)
	if b.tokens < 0 && b.rate > rate {
		b.tokens *= rate / b.rate // a debt is waited for as long as before, or less when the ceiling rises
	}
	b.rate = rate
	b.tokens = min(b.tokens, rate*burst.Seconds())
}

func (b *Bucket) refill(now time.Duration) {
	b.tokens = min(b.rate*burst.Seconds(), b.tokens+b.rate*(now-b.at).Seconds())
	b.at = now
}

// Wait is how long until something may be sent.
func (b *Bucket) Wait(now time.Duration) (wait time.Duration) {
	for ; b != nil; b = b.parent {
		if b.rate == 0 {
			continue
		}
		if b.refill(now); b.tokens <= 0 {
			// One nanosecond more: then there is something in it, and not just nothing missing.
			wait = max(wait, time.Duration(-b.tokens/b.rate*float64(time.Second))+1)
		}
	}
	return wait
}

// Take sends n bytes.
func (b *Bucket) Take(now time.Duration, n float64) {
	for ; b != nil; b = b.parent {
		if b.rate > 0 {
			b.refill(now)
			b.tokens -= n
		}
	}
}
