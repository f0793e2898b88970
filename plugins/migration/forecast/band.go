package forecast

import (
	"math"
	"slices"
)

// Levels are the quantiles that a Band has.
var Levels = [...]float64{.1, .5, .6, .9}

// Indices into Levels.
const (
	Q10 = iota
	Q50
	Q60
	Q90
	levels
)

// Band is a forecast: for each level and each slot from From on, what the value will be below with that probability.
type Band struct {
	From int64
	Q    [levels][]float64
	// Mean is what is expected in the mean, which bursts raise above the median. Transfers are planned by it.
	Mean []float64
}

// NewBand makes room for n slots.
func NewBand(n int) *Band {
	b := &Band{}
	b.Mean = make([]float64, n)
	all := make([]float64, levels*n)
	for q := range b.Q {
		b.Q[q], all = all[:n:n], all[n:]
	}
	return b
}

// Len is the number of slots.
func (b *Band) Len() int { return len(b.Q[0]) }

// settle makes a band of what may come out of sums: within [0, 1], and no quantile below a lower one.
func (b *Band) settle() {
	for k := range b.Q[0] {
		low := 0.0
		for q := range b.Q {
			v := b.Q[q][k]
			if v != v {
				v = low
			}
			low = min(1, max(low, v))
			b.Q[q][k] = low
		}
	}
}

// expect makes the mean of the quantiles, each of which stands for the values around it. It is 0 where nothing is known.
func (b *Band) expect() {
	for k := range b.Mean {
		v := .25*b.Q[Q10][k] + .3*b.Q[Q50][k] + .2*b.Q[Q60][k] + .25*b.Q[Q90][k]
		if v != v {
			v = 0
		}
		b.Mean[k] = min(1, max(0, v))
	}
}

// pinball is the loss of a quantile forecast: what it is least for is the true quantile.
func pinball(level, truth, forecast float64) float64 {
	e := truth - forecast
	return max(level*e, (level-1)*e)
}

// weighted is a value and how much it counts.
type weighted struct{ value, weight float64 }

// quantiles of weighted values, one for each level; NaN for none. It sorts list.
func quantiles(list []weighted) (out [levels]float64) {
	total := 0.0
	for _, x := range list {
		total += x.weight
	}
	if total == 0 {
		for q := range out {
			out[q] = math.NaN()
		}
		return out
	}
	slices.SortFunc(list, func(a, b weighted) int {
		switch {
		case a.value < b.value:
			return -1
		case a.value > b.value:
			return 1
		}
		return 0
	})
	q, sum := 0, 0.0
	for _, x := range list {
		sum += x.weight
		for q < levels && sum >= Levels[q]*total-1e-12 {
			out[q] = x.value
			q++
		}
	}
	for ; q < levels; q++ {
		out[q] = list[len(list)-1].value
	}
	return out
}
