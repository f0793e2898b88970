package share

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// flow sends items of a size whenever it may and it is its turn.
type flow struct {
	bucket  *Bucket
	account Account
	granted float64
	item    float64
	idle    bool
	sent    float64
}

// run serves flows for a while, as package pipeline does.
func run(turns *Turns, flows []*flow, from, to time.Duration, each func(now time.Duration, n float64)) {
	for now := from; now < to; now += time.Millisecond {
		for {
			var next *flow
			for _, f := range flows {
				if !f.idle && f.bucket.Wait(now) <= 0 && (next == nil || turns.Virtual(&f.account) < turns.Virtual(&next.account)) {
					next = f
				}
			}
			if next == nil {
				break
			}
			turns.Serve(&next.account)
			next.account.Charge(next.item, next.granted)
			next.bucket.Take(now, next.item)
			next.sent += next.item
			if each != nil {
				each(now, next.item)
			}
		}
	}
}

func tree(rates ...float64) (root *Bucket, flows []*flow) {
	root = NewBucket(nil)
	sum := 0.0
	for _, r := range rates {
		flows = append(flows, &flow{bucket: NewBucket(root), item: 1000, granted: r})
		sum += r
	}
	root.Set(0, sum)
	return root, flows
}

func TestBucketsAreShared(t *testing.T) {
	_, flows := tree(1e6, 3e6)
	var turns Turns
	at := time.Duration(0)
	second := func(what string, want ...float64) {
		t.Helper()
		// The first half is for what the change brings about.
		run(&turns, flows, at, at+500*time.Millisecond, nil)
		for _, f := range flows {
			f.sent = 0
		}
		run(&turns, flows, at+500*time.Millisecond, at+1500*time.Millisecond, nil)
		at += 1500 * time.Millisecond
		for i, f := range flows {
			if math.Abs(f.sent-want[i]) > 0.02*want[i] {
				t.Errorf("%s: flow %d sent %.0f bytes in a second, want %.0f", what, i, f.sent, want[i])
			}
		}
	}
	second("both send", 1e6, 3e6)
	flows[1].idle = true
	second("one is idle", 4e6, 0)
	flows[1].idle = false
	second("it is back", 1e6, 3e6)
	flows[0].bucket.Set(at, 2e5)
	second("a ceiling of one's own", 2e5, 3.8e6)
	flows[0].bucket.Set(at, 0)
	second("it is lifted", 1e6, 3e6)
}

func TestBucketWithoutCeilingLetsAllThrough(t *testing.T) {
	b := NewBucket(NewBucket(nil))
	b.Take(0, 1e12)
	if w := b.Wait(0); w != 0 {
		t.Errorf("has to wait %v", w)
	}
}

// In no window is more let through than rate × (window + burst) and one item, whatever happens below the root.
func TestBucketWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, flows := tree(1e6, 2e6, 5e5)
		var turns Turns
		for _, f := range flows {
			f.item = rapid.SampledFrom([]float64{1500, 4096, 65536}).Draw(t, "item")
		}
		const window = 200 * time.Millisecond
		type send struct {
			at time.Duration
			n  float64
		}
		var sends []send
		step := 400 * time.Millisecond
		for k := range 4 {
			from := time.Duration(k) * step
			flows[k%3].bucket.Set(from, rapid.Float64Range(1e5, 1e7).Draw(t, "rate"))
			quiet := rapid.IntRange(0, 3).Draw(t, "quiet")
			for i, f := range flows {
				f.idle = i == quiet
			}
			run(&turns, flows, from, from+step, func(now time.Duration, n float64) { sends = append(sends, send{now, n}) })
		}
		limit := root.rate*(window+burst).Seconds() + 65536
		sum, first := 0.0, 0
		for _, s := range sends {
			for sum += s.n; sends[first].at <= s.at-window; first++ {
				sum -= sends[first].n
			}
			if sum > limit {
				t.Fatalf("%.0f bytes within %v before %v, at most %.0f", sum, window, s.at, limit)
			}
		}
	})
}

// A debt of a low ceiling is waited for at the rate of the new one when that is higher, and no longer than before when not.
func TestBucketDebt(t *testing.T) {
	for _, c := range []struct {
		rate float64
		want time.Duration
	}{{2e6, 500 * time.Millisecond}, {1e6, time.Second}, {1e5, time.Second}, {0, 0}} {
		b := NewBucket(nil)
		b.Set(0, 1e6)
		b.Take(0, 1e6)
		b.Set(0, c.rate)
		if wait := b.Wait(0); max(wait-c.want, c.want-wait) > time.Microsecond {
			t.Errorf("a second's worth at 1e6, then %g: wait %v, want %v", c.rate, wait, c.want)
		}
	}
}
