package forecast

import "math"

// profile is what the days before say about a slot, and how far off that was lately. It is shared by the methods that start
// from it.
type profile struct {
	day int64
	buf []weighted
	off []float32 // of the last day's slots, by number modulo day: value less profile; NaN unknown
	// memo is by slot number: what the days before a slot say does not change while it is ahead by less than a day.
	memo []remembered
}

type remembered struct {
	slot int64
	q    [levels]float64
}

const (
	profileDays = 21   // looked back
	dayFade     = 0.85 // weight of each day against the next
	weekWeight  = 4.0  // how much more the same day of the week counts
)

func newProfile(day int64) *profile {
	p := &profile{day: day, off: make([]float32, day), memo: make([]remembered, day)}
	for i := range p.memo {
		p.memo[i].slot = math.MinInt64
	}
	for i := range p.off {
		p.off[i] = float32(math.NaN())
	}
	return p
}

// observe is called once for each slot, before the methods are.
func (p *profile) observe(h *History) {
	n := h.Next() - 1
	p.off[mod(n, p.day)] = float32(h.At(n) - p.of(h, n)[Q50])
}

// ahead is the distribution of the k-th slot from now.
func (p *profile) ahead(h *History, k int) [levels]float64 { return p.of(h, h.Next()+int64(k)) }

// of is the distribution of slot n by the days before; n is at most a day ahead.
func (p *profile) of(h *History, n int64) [levels]float64 {
	m := &p.memo[mod(n, p.day)]
	if m.slot != n {
		*m = remembered{n, p.compute(h, n)}
	}
	return m.q
}

// level is how far the last slots were from their profile in the mean; 0 if that is not known.
func (p *profile) level(h *History, slots int64) float64 {
	sum, n := 0.0, 0
	for i := h.Next() - min(slots, p.day); i < h.Next(); i++ {
		if v := p.off[mod(i, p.day)]; v == v {
			sum += float64(v)
			n++
		}
	}
	return sum / float64(max(1, n))
}

func (p *profile) compute(h *History, n int64) [levels]float64 {
	around := max(1, p.day/24) // what happens every day happens within an hour
	p.buf = p.buf[:0]
	weight := 1.0
	for d := int64(1); d <= profileDays; d++ {
		w := weight
		if d%7 == 0 {
			w *= weekWeight
		}
		for i := n - d*p.day - around; i <= n-d*p.day+around; i++ {
			if v := h.At(i); v == v {
				p.buf = append(p.buf, weighted{v, w})
			}
		}
		weight *= dayFade
	}
	return quantiles(p.buf)
}

// mod is n modulo m, never negative: slots before 1970 have numbers below zero.
func mod(n, m int64) int64 { return (n%m + m) % m }
