package forecast

import "math"

// holtWinters is additive exponential smoothing of a level and a daily season, run with several smoothing constants at once;
// the one that was least off lately answers. One step is a few additions. Holt 1957, Winters 1960; without a trend, which
// over half a day does more harm than good in a utilisation.
type holtWinters struct {
	day  int64
	runs []smoothing
}

type smoothing struct {
	alpha, gamma float64
	level        float64
	season       []float64
	seen         int64
	off          float64 // squared error, fading
}

const (
	firstDays = 1 // days whose mean starts the level and the season
)

func newHoltWinters(day int64) *holtWinters {
	m := &holtWinters{day: day}
	for _, alpha := range []float64{.01, .05, .2} {
		for _, gamma := range []float64{.1, .3} {
			m.runs = append(m.runs, smoothing{alpha: alpha, gamma: gamma, season: make([]float64, day)})
		}
	}
	return m
}

func (*holtWinters) Name() string { return "Holt-Winters" }

// Observe implements Method.
func (m *holtWinters) Observe(h *History) {
	n := h.Next() - 1
	v := h.At(n)
	for i := range m.runs {
		m.runs[i].observe(n, v, m.day)
	}
}

func (r *smoothing) observe(n int64, v float64, day int64) {
	at := mod(n, day)
	r.seen++
	if r.seen <= firstDays*day {
		// The first day is the season, and its running mean the level.
		if v == v {
			r.level += (v - r.level) / float64(r.seen)
			r.season[at] = v
		} else {
			r.season[at] = r.level
		}
		if r.seen == firstDays*day {
			for i := range r.season {
				r.season[i] -= r.level
			}
		}
		return
	}
	if v != v {
		return // the forecast of a gap is not off
	}
	e := v - r.level - r.season[at]
	r.off += (e*e - r.off) / float64(day)
	r.level += r.alpha * e
	r.season[at] += r.gamma * e
}

// Median implements Method.
func (m *holtWinters) Median(h *History, out []float64) {
	best := &m.runs[0]
	for i := range m.runs {
		if m.runs[i].off < best.off {
			best = &m.runs[i]
		}
	}
	if best.seen <= firstDays*m.day {
		fill(out, math.NaN())
		return
	}
	for k := range out {
		n := h.Next() + int64(k)
		out[k] = best.level + best.season[mod(n, m.day)]
	}
}

var _ Method = (*holtWinters)(nil)
