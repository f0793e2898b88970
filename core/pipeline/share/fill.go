package share

import "math"

// tolerance for sums of floats that should be whole.
const tolerance = 1e-9

// fill raises the rates of all pipelines together, each in proportion to its weight over its dominant need, until a
// resource is used up or a pipeline has all it can use; those stay where they are and the others go on (progressive
// filling). Each round ends at least one pipeline, so there are at most len(demands) rounds.
func fill(demands []Demand, c [resources]float64) []float64 {
	rates := make([]float64, len(demands))
	needs := make([]need, len(demands))
	step := make([]float64, len(demands)) // rate gained while the level rises by one
	var active []int
	for i := range demands {
		d := &demands[i]
		needs[i] = d.need(c)
		dominant := needs[i].dominant()
		if dominant == 0 { // nothing is limited that it needs
			rates[i] = min(d.most(), math.MaxFloat32)
			continue
		}
		step[i] = d.weight() / dominant
		active = append(active, i)
	}
	var used need
	for len(active) > 0 {
		var slope need
		for _, i := range active {
			for r := range slope {
				slope[r] += step[i] * needs[i][r]
			}
		}
		rise := math.Inf(1)
		for r := range slope {
			if slope[r] > 0 {
				rise = min(rise, max(0, 1-used[r])/slope[r])
			}
		}
		for _, i := range active {
			rise = min(rise, (demands[i].most()-rates[i])/step[i])
		}
		for _, i := range active {
			rates[i] += rise * step[i]
			for r := range used {
				used[r] += rise * step[i] * needs[i][r]
			}
		}
		rest := active[:0]
		for _, i := range active {
			if !finished(&demands[i], rates[i], needs[i], used) {
				rest = append(rest, i)
			}
		}
		if len(rest) == len(active) { // only rounding can bring this about
			return rates
		}
		active = rest
	}
	return rates
}

// finished reports whether nothing can be added to a pipeline's rate.
func finished(d *Demand, rate float64, n need, used need) bool {
	for r := range n {
		if n[r] > 0 && used[r] >= 1-tolerance {
			return true
		}
	}
	return rate >= d.most()*(1-tolerance)
}
