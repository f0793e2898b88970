package forecast

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var begin = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

const step = 30 * time.Minute

// daily is busy by day and free by night, with noise.
func daily(rng *rand.Rand) func(i int) float64 {
	return func(i int) float64 {
		return .5 - .35*math.Cos(2*math.Pi*float64(i%48)/48) + .03*rng.NormFloat64()
	}
}

// feed adds n slots of a load.
func feed(f *Forecaster, from, n int, load func(i int) float64) {
	for i := from; i < from+n; i++ {
		f.Add(begin.Add(time.Duration(i)*step), load(i))
	}
}

func newTest() *Forecaster { return New(Options{Step: step}) }

// TestSeason: after ten days a daily load is known in advance, with a band that holds most of it, and waiting by it is worth it.
func TestSeason(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	load, f := daily(rng), newTest()
	feed(f, 0, 480, load)
	b := f.Forecast(begin.Add(480 * step))
	if b.From != f.series.Slot(begin.Add(480*step)) || b.Len() != 36 {
		t.Fatalf("the band is of %d slots from %d", b.Len(), b.From)
	}
	off, under := 0.0, 0
	for k := range b.Len() {
		truth := load(480 + k)
		off += math.Abs(truth-b.Q[Q50][k]) / float64(b.Len())
		if truth <= b.Q[Q90][k] {
			under++
		}
	}
	if off > .06 || under < 26 {
		t.Errorf("off by %.3f in the mean, %d of %d under the upper quantile", off, under, b.Len())
	}
	if s := f.Skill(); !s.Skilled || s.Slope < .7 || s.Gain < .1 {
		t.Errorf("skill %+v of a load that is the same every day", s)
	}
}

// TestNoSkill: a load whose quiet hours are others every day looks like one with a season. Nothing is to be waited for: the back-test
// sees that what the forecast promised has not come true.
func TestNoSkill(t *testing.T) {
	const seeds = 8
	waits := 0
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 2))
		f, quiet := newTest(), 0
		feed(f, 0, 48*14, func(i int) float64 {
			if i%48 == 0 {
				quiet = rng.IntN(40)
			}
			if at := i % 48; at >= quiet && at < quiet+8 {
				return .1
			}
			return .8 + .05*rng.Float64()
		})
		if s := f.Skill(); s.Skilled {
			t.Logf("seed %d: slope %.2f, gain %.3f", seed, s.Slope, s.Gain)
			waits++
		}
	}
	// Two weeks may look like a season by chance, and waiting for the quiet hours that have been most frequent is no loss then.
	if waits > seeds/2 {
		t.Errorf("%d of %d random loads were waited for", waits, seeds)
	}
}

// TestBadInput: whatever comes in, quantiles are numbers between 0 and 1 and in order.
func TestBadInput(t *testing.T) {
	season := daily(rand.New(rand.NewPCG(3, 3)))
	for name, add := range map[string]func(f *Forecaster){
		"nothing":   func(*Forecaster) {},
		"one":       func(f *Forecaster) { f.Add(begin, .5) },
		"constant":  func(f *Forecaster) { feed(f, 0, 700, func(int) float64 { return .4 }) },
		"zero":      func(f *Forecaster) { feed(f, 0, 700, func(int) float64 { return 0 }) },
		"not known": func(f *Forecaster) { feed(f, 0, 700, func(int) float64 { return math.NaN() }) },
		"infinite": func(f *Forecaster) {
			feed(f, 0, 700, func(i int) float64 { return []float64{math.Inf(1), math.Inf(-1), 1e300, -1e300}[i%4] })
		},
		"outliers": func(f *Forecaster) {
			feed(f, 0, 700, func(i int) float64 {
				if i%50 == 7 {
					return 1e18
				}
				return season(i)
			})
		},
		"irregular": func(f *Forecaster) {
			rng := rand.New(rand.NewPCG(4, 4))
			at := begin
			for i := range 3000 {
				at = at.Add(time.Duration(rng.ExpFloat64() * float64(10*time.Minute)))
				f.Add(at, season(i/3))
			}
		},
		"gap of three days": func(f *Forecaster) {
			feed(f, 0, 480, season)
			feed(f, 624, 300, season)
		},
		"gap of years": func(f *Forecaster) {
			feed(f, 0, 480, season)
			feed(f, 48*365*30, 300, season)
		},
		"before 1970": func(f *Forecaster) { feed(f, -48*365*60, 700, season) },
	} {
		f := newTest()
		add(f)
		b := f.Forecast(f.series.Time(max(0, f.history.Next())))
		for k := range b.Len() {
			low := 0.0
			for q := range b.Q {
				v := b.Q[q][k]
				if !(v >= low && v <= 1) {
					t.Fatalf("%s: slot %d: quantiles %v %v %v %v", name, k, b.Q[0][k], b.Q[1][k], b.Q[2][k], b.Q[3][k])
				}
				low = v
			}
			if !(b.Mean[k] >= 0 && b.Mean[k] <= 1) {
				t.Fatalf("%s: slot %d: mean %v", name, k, b.Mean[k])
			}
		}
		if n := len(f.history.values); n > 2*f.history.keep {
			t.Errorf("%s: %d slots are held", name, n)
		}
	}
}

// TestClock: a clock that jumps is not believed at once; a single stray sample changes nothing.
func TestClock(t *testing.T) {
	season := daily(rand.New(rand.NewPCG(5, 5)))
	f := newTest()
	feed(f, 0, 480, season)
	next := f.history.Next()
	f.Add(begin.Add(1000*time.Hour), 1)
	f.Add(begin.Add(-1000*time.Hour), 1)
	if f.history.Next() != next {
		t.Errorf("stray samples moved the history from %d to %d", next, f.history.Next())
	}
	feed(f, 480, 2, season)
	if f.history.Next() != next+2 {
		t.Errorf("after strays the history goes on at %d, not %d", f.history.Next(), next+2)
	}
	// The clock was an hour ahead and is put back: a slot later than now is forgotten.
	feed(f, 400, 40, season)
	if got, want := f.history.Next(), f.series.Slot(begin.Add(439*step)); got != want {
		t.Errorf("after the clock was put back the history ends at %d, not %d", got, want)
	}
}

// TestClockThatWasFarAhead: what a clock said that is put back by more than there is of a history is forgotten with it.
func TestClockThatWasFarAhead(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"new box, a day": 24 * time.Hour, "history of a month, ten years": 10 * 365 * 24 * time.Hour} {
		f, load := newTest(), daily(rand.New(rand.NewPCG(1, 1)))
		if ahead > 24*time.Hour {
			feed(f, -48*28, 48*28, load)
		}
		for i := range 20 {
			f.Add(begin.Add(ahead+time.Duration(i)*step/2), .5)
		}
		feed(f, 0, 480, load)
		at := begin.Add(480 * step)
		if b := f.Forecast(at); b.From != f.series.Slot(at) || f.Slots() < 460 || !f.Worth() {
			t.Errorf("%s: %d slots, the band begins at %v, not at %v; skill %+v", name, f.Slots(), f.Time(b.From), at, f.Skill())
		}
	}
}

func TestSnapshot(t *testing.T) {
	season := daily(rand.New(rand.NewPCG(6, 6)))
	f := newTest()
	feed(f, 0, 300, season)
	feed(f, 310, 300, season) // with a gap
	kept := f.Snapshot()
	again := newTest()
	if err := again.Restore(kept); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Snapshot(), kept) {
		t.Error("a snapshot of what was restored is another")
	}
	now := begin.Add(610 * step)
	a, b := f.Forecast(now), again.Forecast(now)
	for k := range a.Len() {
		if math.Abs(a.Q[Q50][k]-b.Q[Q50][k]) > .02 {
			t.Fatalf("slot %d: %v before and %v after the restart", k, a.Q[Q50][k], b.Q[Q50][k])
		}
	}
	for i, damage := range [][]byte{nil, kept[:10], kept[:len(kept)-1], append([]byte("XXXX"), kept[4:]...), flip(kept, 4), flip(kept, 30)} {
		if err := newTest().Restore(damage); err == nil {
			t.Errorf("damage %d is not seen", i)
		}
	}
	if err := New(Options{}).Restore(kept); err == nil {
		t.Error("a history of other steps is taken")
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func FuzzRestore(f *testing.F) {
	one := newTest()
	feed(one, 0, 60, func(i int) float64 { return float64(i%48) / 48 })
	f.Add(one.Snapshot())
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		g := newTest()
		if err := g.Restore(data); err == nil && len(g.history.values) > 2*g.history.keep {
			t.Fatal("holds more than it may")
		}
	})
}

func BenchmarkMonth(b *testing.B) {
	for b.Loop() {
		f := New(Options{})
		for i := range 8064 {
			f.Add(begin.Add(time.Duration(i)*5*time.Minute), .5+.4*math.Sin(float64(i)/288*2*math.Pi))
		}
	}
}
