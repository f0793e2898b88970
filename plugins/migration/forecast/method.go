package forecast

import "math"

// Method forecasts a series. It is given each slot once, in order, and owns what it remembers beside the history.
type Method interface {
	Name() string
	// Observe is called when h has got a slot; its value is NaN in a gap.
	Observe(h *History)
	// Median writes what it expects of the slots h.Next(), h.Next()+1, …; NaN where it cannot say.
	Median(h *History, out []float64)
}

// banded methods know the spread as well. That of the others is learnt from how far they were off.
type banded interface {
	Method
	Band(h *History, b *Band)
}

// last expects what was measured last: right for a series without a season and with slow changes.
type last struct{}

func (last) Name() string     { return "last value" }
func (last) Observe(*History) {}
func (last) Median(h *History, out []float64) {
	v, _ := h.Last()
	fill(out, v)
}

// recent expects the mean of the last hours, which is better than the last value where that is mostly noise.
type recent struct{ slots int64 }

func (recent) Name() string     { return "recent mean" }
func (recent) Observe(*History) {}
func (m recent) Median(h *History, out []float64) {
	v, n := h.Mean(h.Next()-m.slots, h.Next())
	if n == 0 {
		v, _ = h.Last()
	}
	fill(out, v)
}

// naive expects what was measured around the same time one season ago.
type naive struct {
	name   string
	season int64
	around int64 // slots to either side whose mean is taken
}

func (m naive) Name() string   { return m.name }
func (naive) Observe(*History) {}
func (m naive) Median(h *History, out []float64) {
	for k := range out {
		out[k] = m.at(h, h.Next()+int64(k))
	}
}

// at goes back as many seasons as it takes: for a gap, and for a slot that is more than a season ahead.
func (m naive) at(h *History, slot int64) float64 {
	for slot -= m.season; slot+m.around >= h.First(); slot -= m.season {
		if v, n := h.Mean(slot-m.around, slot+m.around+1); n > 0 && slot < h.Next() {
			return v
		}
	}
	return math.NaN()
}

func fill(out []float64, v float64) {
	for k := range out {
		out[k] = v
	}
}

var (
	_ Method = last{}
	_ Method = recent{}
	_ Method = naive{}
)
