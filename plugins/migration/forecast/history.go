package forecast

import "math"

// History is the last slots of a resource, of which each is its utilisation between 0 and 1, or NaN. Slots have absolute
// numbers, so a season is found by subtraction.
type History struct {
	values []float32
	first  int64 // number of values[0]
	keep   int
}

// newHistory holds at least keep slots.
func newHistory(keep int) *History { return &History{keep: keep} }

// Next is the number of the slot that comes after the last one held.
func (h *History) Next() int64 { return h.first + int64(len(h.values)) }

// First is the number of the oldest slot held.
func (h *History) First() int64 { return h.first }

// At is the value of slot n, NaN if it is not held.
func (h *History) At(n int64) float64 {
	i := n - h.first
	if i < 0 || i >= int64(len(h.values)) {
		return math.NaN()
	}
	return float64(h.values[i])
}

// Last is the newest value that is one, and its slot.
func (h *History) Last() (float64, int64) {
	for i := len(h.values) - 1; i >= 0; i-- {
		if v := h.values[i]; v == v {
			return float64(v), h.first + int64(i)
		}
	}
	return math.NaN(), h.first
}

// Mean of the known values among slots from up to to, with how many there are.
func (h *History) Mean(from, to int64) (mean float64, n int) {
	for i := from; i < to; i++ {
		if v := h.At(i); v == v {
			mean += v
			n++
		}
	}
	return mean / float64(max(1, n)), n
}

func (h *History) push(v float64) {
	if len(h.values) >= 2*h.keep { // moved once in keep slots
		h.first += int64(len(h.values) - h.keep)
		h.values = append(h.values[:0], h.values[len(h.values)-h.keep:]...)
	}
	h.values = append(h.values, float32(v))
}

// cut forgets slot n and all after it.
func (h *History) cut(n int64) {
	if i := n - h.first; i < int64(len(h.values)) {
		h.values = h.values[:max(0, i)]
	}
}
