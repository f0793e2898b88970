package trial

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/forecast"
)

// Options of a trial; the zero value is the protocol's.
type Options struct {
	Requests int    // 0 is 150
	Seed     uint64 // 0 is 1
	// Days cuts the series off after so many; 0 does not.
	Days int
}

// Outcome of a series.
type Outcome struct {
	Name string
	// Sums of durations, in slots.
	Ours, Now, Clairvoyant float64
	// Under of Slots were not above the 0.9 quantile.
	Under, Slots int
	// Skilled is at how many of the requests the back-test let them wait.
	Skilled, Requests int
}

// Regret is our durations against the clairvoyant's.
func (o Outcome) Regret() float64 { return o.Ours / o.Clairvoyant }

// AgainstNow is our durations against those of starting at once.
func (o Outcome) AgainstNow() float64 { return o.Ours / o.Now }

// Coverage is the share of truths under the 0.9 quantile.
func (o Outcome) Coverage() float64 { return float64(o.Under) / float64(max(1, o.Slots)) }

const (
	firstDays = 7  // of history before the first request
	leastDays = 10 // that a series must have
)

// request is a transfer that waits for its start.
type request struct {
	at, last int     // slots between which it starts
	size     float64 // slots at the full rate
	started  bool
}

// Run tries a series; false if it is too short.
func Run(s Series, o Options) (Outcome, bool) {
	if o.Requests == 0 {
		o.Requests = 150
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	g := s.grid()
	day := int(24 * time.Hour / g.step)
	if o.Days > 0 {
		g.load = g.load[:min(len(g.load), o.Days*day)]
	}
	if len(g.load) < leastDays*day {
		return Outcome{}, false
	}
	t := &trial{grid: g, day: day, out: Outcome{Name: s.Name, Requests: o.Requests}, forecaster: forecast.New(forecast.Options{Step: g.step})}
	t.requests(o)
	t.run()
	return t.out, true
}

type trial struct {
	grid
	day        int
	forecaster *forecast.Forecaster
	waiting    []*request
	out        Outcome
}

// requests come at random; what they would take now and at best is counted here.
func (t *trial) requests(o Options) {
	rng := rand.New(rand.NewPCG(o.Seed, uint64(len(t.load))))
	window := t.day / 2
	for range o.Requests {
		r := &request{at: firstDays*t.day + rng.IntN(len(t.load)-(firstDays+2)*t.day), size: float64(t.day) / 24 * (.25 + rng.Float64())}
		r.last = r.at + window - 1
		best := math.Inf(1)
		for k := r.at; k <= r.last; k++ {
			best = min(best, t.duration(k, r.size))
		}
		t.out.Now += t.duration(r.at, r.size)
		t.out.Clairvoyant += best
		t.waiting = append(t.waiting, r)
	}
	slices.SortStableFunc(t.waiting, func(a, b *request) int { return a.at - b.at })
}

// duration is the true one of a transfer that starts in a slot.
func (t *trial) duration(slot int, size float64) float64 {
	return forecast.Duration(t.load, slot, size, float64(t.day))
}

func (t *trial) run() {
	stride := int(max(1, forecast.Tick/t.step))
	for slot := range t.load {
		now := t.begin.Add(time.Duration(slot) * t.step)
		for len(t.waiting) > 0 && t.waiting[0].started {
			t.waiting = t.waiting[1:]
		}
		if len(t.waiting) == 0 {
			return
		}
		var band *forecast.Band
		for _, r := range t.waiting {
			if r.at > slot {
				break
			}
			if r.started || (slot-r.at)%stride != 0 {
				continue
			}
			if band == nil {
				band = t.forecaster.Forecast(now)
			}
			if r.at == slot {
				t.cover(band, slot)
			}
			t.decide(r, band, slot, stride)
		}
		if t.measured[slot] {
			t.forecaster.Add(now, t.load[slot])
		}
	}
}

// cover counts truths under the band.
func (t *trial) cover(b *forecast.Band, slot int) {
	for k := range t.day / 2 {
		if t.load[slot+k] <= b.Q[forecast.Q90][k] {
			t.out.Under++
		}
		t.out.Slots++
	}
}

// decide starts a request or leaves it until the next look.
func (t *trial) decide(r *request, b *forecast.Band, slot, stride int) {
	worth := t.forecaster.Worth()
	if slot == r.at && worth {
		t.out.Skilled++
	}
	now, best, at := b.Expected(0, r.size, float64(t.day)), math.Inf(1), 0
	for k := 1; slot+k <= r.last; k++ {
		if d := b.Expected(k, r.size, float64(t.day)); d < best {
			best, at = d, k
		}
	}
	switch {
	case now <= best, !worth:
		at = 0
	case at >= stride:
		return
	}
	r.started = true
	t.out.Ours += t.duration(slot+at, r.size)
}
