package forecast

import "math"

// damped expects the profile, moved by the deviations of the last slot, hour and day and of the same slot yesterday, each with
// a coefficient that recursive least squares has learnt for that far ahead. A resource that forgets quickly ends with
// coefficients near zero, one that drifts with some near one.
type damped struct {
	*profile
	fits    []fit
	pending []sample
}

const (
	features    = 4
	forgetting  = 0.9985 // of least squares, by sample; two a tick and bucket: about a week
	ridge       = 2.0
	sampleEvery = 2 // samples are taken every so many slots
)

// fit is recursive least squares.
type fit struct {
	beta [features]float64
	p    [features][features]float64
	seen int
}

// sample waits for its truth.
type sample struct {
	due    int64
	bucket int
	base   float64
	x      [features]float64
}

func newDamped(p *profile) *damped {
	m := &damped{profile: p, fits: make([]fit, buckets)}
	for i := range m.fits {
		for j := range features {
			m.fits[i].p[j][j] = 1 / ridge * 10
		}
	}
	return m
}

func (*damped) Name() string { return "damped deviations" }

// Observe implements Method.
func (m *damped) Observe(h *History) {
	n := h.Next() - 1
	keep := m.pending[:0]
	for _, s := range m.pending {
		switch {
		case s.due > n:
			keep = append(keep, s)
		case s.due == n:
			if v := h.At(n); v == v {
				m.fits[s.bucket].learn(s.x, v-s.base)
			}
		}
	}
	m.pending = keep
	if n%sampleEvery != 0 {
		return
	}
	x := m.now(h)
	// One sample of each bucket, at a place in it that changes from time to time.
	for b := range buckets {
		from, to := span(b, m.day)
		k := from + int(mod(n/sampleEvery*7, int64(max(1, to-from))))
		base := m.ahead(h, k)[Q50]
		if x[3] = m.yesterday(h, k); base == base {
			m.pending = append(m.pending, sample{h.Next() + int64(k), b, base, x})
		}
	}
}

// now is the features that are the same however far ahead.
func (m *damped) now(h *History) (x [features]float64) {
	x[0] = m.level(h, 1)
	x[1] = m.level(h, max(2, m.day/24))
	x[2] = m.level(h, m.day)
	return x
}

// yesterday is how far the same slot was off a day ago.
func (m *damped) yesterday(h *History, k int) float64 {
	if v := float64(m.off[mod(h.Next()+int64(k), m.day)]); v == v {
		return v
	}
	return 0
}

// Median implements Method.
func (m *damped) Median(h *History, out []float64) {
	x := m.now(h)
	for k := range out {
		x[3] = m.yesterday(h, k)
		out[k] = m.ahead(h, k)[Q50] + m.fits[bucket(k, m.day)].predict(x)
	}
}

func (f *fit) predict(x [features]float64) (y float64) {
	if f.seen < 20 {
		return 0
	}
	for i, b := range f.beta {
		y += b * x[i]
	}
	return y
}

func (f *fit) learn(x [features]float64, y float64) {
	var px [features]float64
	den := forgetting
	for i := range features {
		for j := range features {
			px[i] += f.p[i][j] * x[j]
		}
		den += x[i] * px[i]
	}
	e := y
	for i, b := range f.beta {
		e -= b * x[i]
	}
	for i := range features {
		f.beta[i] += px[i] / den * e
		for j := range features {
			f.p[i][j] -= px[i] * px[j] / den
			f.p[i][j] /= forgetting
		}
	}
	// Without excitation the covariance would grow for ever.
	for i := range features {
		if f.p[i][i] > 1e4 || math.IsNaN(f.p[i][i]) {
			*f = fit{beta: f.beta, seen: f.seen}
			for j := range features {
				f.p[j][j] = 1 / ridge
			}
			break
		}
	}
	f.seen++
}

var _ Method = (*damped)(nil)
