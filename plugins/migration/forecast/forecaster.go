package forecast

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Options of a Forecaster; the zero value is for a resource that is sampled every few minutes and whose samples are
// already between 0 and 1.
type Options struct {
	// Step is the length of a slot; 0 means 5 minutes.
	Step time.Duration
	// Capacity is the sample that means that nothing is left; 0 means 1.
	Capacity float64
	// Keep is how long samples are looked back at; 0 means 28 days.
	Keep time.Duration
}

const (
	// Horizon is how far a forecast reaches.
	Horizon = 18 * time.Hour
	// Window is how long a start is put off at most.
	Window = 12 * time.Hour
	// Tick is how often a forecast is made to be judged later.
	Tick = 30 * time.Minute
)

// Forecaster is what is known of one resource. It is not safe for concurrent use.
type Forecaster struct {
	o       Options
	series  *Series
	history *History
	profile *profile
	pool    *pool
	guard   *guard
	stride  int
	scratch *Band
}

// New returns a Forecaster without samples.
func New(o Options) *Forecaster {
	if o.Step <= 0 {
		o.Step = 5 * time.Minute
	}
	if o.Capacity <= 0 {
		o.Capacity = 1
	}
	if o.Keep <= 0 {
		o.Keep = 28 * 24 * time.Hour
	}
	f := &Forecaster{o: o, series: NewSeries(o.Step), stride: int(max(1, Tick/o.Step))}
	f.history = newHistory(int(o.Keep / o.Step))
	f.restart()
	return f
}

func (f *Forecaster) restart() {
	day := int64(24 * time.Hour / f.o.Step)
	hour := float64(day) / 24
	horizon := int(Horizon / f.o.Step)
	f.profile = newProfile(day)
	f.pool = newPool(day, horizon, f.stride, []Method{
		last{},
		recent{day / 8},
		naive{"same time yesterday", day, day / 48},
		naive{"same time last week", 7 * day, day / 48},
		&seasonal{profile: f.profile},
		newHoltWinters(day),
		newDamped(f.profile),
	})
	f.guard = newGuard(int(Window/Tick), f.stride, []float64{.25 * hour, .75 * hour, 1.25 * hour}, 6*hour)
	f.scratch = NewBand(horizon)
}

// Add takes a sample.
func (f *Forecaster) Add(at time.Time, value float64) {
	if c, ok := f.series.Add(at, value); ok {
		f.closed(c)
	}
}

// closed takes a slot into the history, with the gap before it.
func (f *Forecaster) closed(c Closed) {
	if c.Slot < f.history.Next() {
		if f.history.cut(c.Slot); len(f.history.values) == 0 { // measured by a clock that was ahead
			// All of it was: what was learnt has its numbers, too.
			f.history.first = c.Slot
			f.restart()
		}
	}
	if f.history.Next() == 0 || c.Slot-f.history.Next() >= int64(f.history.keep) {
		f.history = newHistory(f.history.keep)
		f.history.first = c.Slot
	}
	for f.history.Next() < c.Slot {
		f.push(math.NaN())
	}
	f.push(min(1, max(0, c.Value/f.o.Capacity)))
}

func (f *Forecaster) push(v float64) {
	f.history.push(v)
	f.profile.observe(f.history)
	for _, m := range f.pool.methods {
		m.Observe(f.history)
	}
	if mod(f.history.Next(), int64(f.stride)) == 0 {
		f.pool.tick(f.history, f.scratch)
		f.pool.forecast(f.history, f.scratch)
		f.guard.tick(f.history, f.scratch)
	}
}

// Worth says whether waiting by the forecast is worth it: see Skill.
func (f *Forecaster) Worth() bool { return f.guard.worth() }

// Forecast returns the band from the slot of now on; it is valid until the next call.
func (f *Forecaster) Forecast(now time.Time) *Band {
	if c, ok := f.series.Close(now); ok {
		f.closed(c)
	}
	for n := f.series.Slot(now); f.history.Next() > 0 && f.history.Next() < n && n-f.history.Next() < int64(f.history.keep); {
		f.push(math.NaN())
	}
	f.pool.forecast(f.history, f.scratch)
	return f.scratch
}

// Skill is what the back-test says.
type Skill struct {
	// Skilled: what the forecast says about when to start has come true. Otherwise nothing is to be waited for.
	Skilled bool
	// Slope is the part of the expected differences between starts that came true, Gain the part of the durations that the starts
	// expected to be best would have saved lately.
	Slope, Gain float64
	// Days of history.
	Days float64
	// Methods of the pool with their weights, the heaviest first.
	Methods []Weighted
}

// Weighted is a method's part in the forecast.
type Weighted struct {
	Name   string
	Weight float64
}

// Skill of the forecast until now.
func (f *Forecaster) Skill() Skill {
	s := Skill{Days: float64(len(f.history.values)) / float64(f.profile.day), Slope: f.guard.slope(), Gain: f.guard.gain()}
	s.Skilled = f.Worth()
	for i, w := range f.pool.weights() {
		s.Methods = append(s.Methods, Weighted{f.pool.methods[i].Name(), w})
	}
	slices.SortStableFunc(s.Methods, func(a, b Weighted) int { return cmp.Compare(b.Weight, a.Weight) })
	return s
}

// Step returns the length of a slot.
func (f *Forecaster) Step() time.Duration { return f.o.Step }

// Time is when a slot begins.
func (f *Forecaster) Time(slot int64) time.Time { return f.series.Time(slot) }

// Recent is the mean of the last slots that hold that long, and how many there are: what was measured before now.
func (f *Forecaster) Recent(long time.Duration) (mean float64, slots int) {
	return f.history.Mean(f.history.Next()-int64(long/f.o.Step), f.history.Next())
}

// Past is the value of a slot before now, NaN if it is not known.
func (f *Forecaster) Past(slot int64) float64 { return f.history.At(slot) }

// Slots is how many values are known, gaps left out.
func (f *Forecaster) Slots() int {
	_, n := f.history.Mean(f.history.First(), f.history.Next())
	return n
}
