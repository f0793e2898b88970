package share

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// flow sends items of a size whenever it may.
type flow struct {
	bucket *Bucket
	item   float64
	idle   func(time.Duration) bool // nil: always something to send
	sent   float64
}

// run serves flows for a while as package pipeline does: first those within their assured rate, then borrowers.
func run(flows []*flow, from, to time.Duration, each func(now time.Duration, n float64)) {
	for now := from; now < to; now += time.Millisecond {
		for sent := true; sent; {
			sent = false
			for _, borrow := range []bool{false, true} {
				if sent {
					break // somebody was within the assured rate, and may be again
				}
				for _, f := range flows {
					if f.idle != nil && f.idle(now) {
						continue
					}
					assured, borrowing := f.bucket.Wait(now)
					if borrow && borrowing <= 0 || !borrow && assured <= 0 {
						f.bucket.Take(now, f.item, borrow)
						f.sent += f.item
						sent = true
						if each != nil {
							each(now, f.item)
						}
						if borrow {
							break
						}
					}
				}
			}
		}
	}
}

func tree(rates ...float64) (root *Bucket, flows []*flow) {
	root = NewBucket(nil)
	sum := 0.0
	for _, r := range rates {
		b := NewBucket(root)
		b.Set(0, r, 0)
		sum += r
		flows = append(flows, &flow{bucket: b, item: 1000})
	}
	root.Set(0, 0, sum)
	return root, flows
}

func wantRate(t *testing.T, what string, f *flow, want float64) {
	t.Helper()
	if f.sent < want*0.98 || f.sent > want*1.02 {
		t.Errorf("%s: sent %.0f bytes in a second, want %.0f", what, f.sent, want)
	}
	f.sent = 0
}

func TestBucketSharesAndBorrows(t *testing.T) {
	_, flows := tree(1e6, 3e6)
	run(flows, 0, time.Second, nil) // let the first burst be over
	flows[0].sent, flows[1].sent = 0, 0
	run(flows, time.Second, 2*time.Second, nil)
	wantRate(t, "both send, the smaller", flows[0], 1e6)
	wantRate(t, "both send, the larger", flows[1], 3e6)

	flows[1].idle = func(time.Duration) bool { return true }
	run(flows, 2*time.Second, 3*time.Second, nil)
	wantRate(t, "the other is idle", flows[0], 4e6)

	flows[1].idle = nil
	run(flows, 3*time.Second, 4*time.Second, nil)
	flows[0].sent, flows[1].sent = 0, 0
	run(flows, 4*time.Second, 5*time.Second, nil)
	wantRate(t, "it is back", flows[1], 3e6)
	wantRate(t, "the borrower is where it was", flows[0], 1e6)
}

func TestBucketCeilingOfItsOwn(t *testing.T) {
	_, flows := tree(1e6, 1e6)
	flows[0].bucket.Set(0, 2e5, 2e5)
	run(flows, 0, time.Second, nil)
	flows[0].sent, flows[1].sent = 0, 0
	run(flows, time.Second, 2*time.Second, nil)
	wantRate(t, "ceiling", flows[0], 2e5)
	wantRate(t, "the rest", flows[1], 1.8e6)
}

func TestBucketWithoutRatesLetsAllThrough(t *testing.T) {
	root := NewBucket(nil)
	b := NewBucket(root)
	b.Take(0, 1e12, false)
	if a, w := b.Wait(0); a != 0 || w != 0 {
		t.Errorf("has to wait %v and %v", a, w)
	}
}

// In no window is more let through than rate × (window + burst) and one item, whatever happens to the rates.
func TestBucketWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, flows := tree(1e6, 2e6, 5e5)
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
			flows[k%3].bucket.Set(from, rapid.Float64Range(1e5, 1e6).Draw(t, "rate"), 0)
			quiet := rapid.IntRange(0, 3).Draw(t, "quiet")
			for i, f := range flows {
				f.idle = func(time.Duration) bool { return i == quiet }
			}
			run(flows, from, from+step, func(now time.Duration, n float64) { sends = append(sends, send{now, n}) })
		}
		limit := root.most.rate*(window+burst).Seconds() + 65536
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
