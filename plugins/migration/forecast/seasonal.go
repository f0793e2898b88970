package forecast

import "math"

// seasonal expects the profile's quantiles, moved by how much the last hour was off.
type seasonal struct {
	*profile
}

// levelFade is after how many hours the level counts 1/e.
const levelFade = 3.0

func (*seasonal) Name() string     { return "seasonal quantile" }
func (*seasonal) Observe(*History) {}

// Median implements Method.
func (s *seasonal) Median(h *History, out []float64) {
	off := s.level(h, max(2, s.day/24))
	for k := range out {
		out[k] = s.ahead(h, k)[Q50] + s.fade(off, k)
	}
}

// Band implements banded.
func (s *seasonal) Band(h *History, b *Band) {
	off := s.level(h, max(2, s.day/24))
	for k := range b.Len() {
		q := s.ahead(h, k)
		for i := range q {
			b.Q[i][k] = q[i] + s.fade(off, k)
		}
	}
}

func (s *seasonal) fade(off float64, k int) float64 {
	return off * math.Exp(-float64(k)*24/float64(s.day)/levelFade)
}

var _ banded = (*seasonal)(nil)
