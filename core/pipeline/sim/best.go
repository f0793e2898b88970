package sim

import "math"

// Split is a fixed allocation: whole workers by pipeline and stage (those of stages that wait do not count), and parts of the
// memory and the bandwidth by pipeline.
type Split struct {
	Workers   [][]int
	Memory    []float64
	Bandwidth []float64
}

// parts is into how many pieces Best divides memory and bandwidth.
const parts = 8

// Best tries every split and returns the one with the highest score, the score, and how many there were.
func Best(w Workload) (best Split, score float64, tried int) {
	for _, s := range splits(&w) {
		tried++
		if x := Score(w, Run(w, &s)); x > score {
			best, score = s, x
		}
	}
	return best, score, tried
}

// Equal gives every stage the same number of workers, as far as they go, and every pipeline the same part of the rest.
func Equal(w Workload) Split {
	s := Split{Memory: even(len(w.Pipelines)), Bandwidth: even(len(w.Pipelines))}
	count := 0
	for _, p := range w.Pipelines {
		count += computing(&p)
	}
	left := w.Workers
	for _, p := range w.Pipelines {
		row := make([]int, len(p.Stages))
		for k := range row {
			if !p.Stages[k].Waits {
				row[k] = left / count
				left -= row[k]
				count--
			}
		}
		s.Workers = append(s.Workers, row)
	}
	return s
}

// Score of a run: the geometric mean of the pipelines' throughputs, weighted. Doubling one at the price of halving another
// of the same weight is no gain.
func Score(w Workload, r Result) float64 {
	sum, weight := 0.0, 0.0
	for i, done := range r.Done {
		sum += w.Pipelines[i].Weight * math.Log(done+1e-9)
		weight += w.Pipelines[i].Weight
	}
	return math.Exp(sum / weight)
}

// Jain is the index of how evenly something was shared, in relation to the weights: 1 is exactly, 1/n is all to one.
func Jain(shares []float64, w Workload) float64 {
	var sum, squares float64
	for i, x := range shares {
		x /= w.Pipelines[i].Weight
		sum += x
		squares += x * x
	}
	if squares == 0 {
		return 1
	}
	return sum * sum / (float64(len(shares)) * squares)
}

func splits(w *Workload) (all []Split) {
	stages := 0
	for i := range w.Pipelines {
		stages += computing(&w.Pipelines[i])
	}
	memory, bandwidth := [][]float64{even(len(w.Pipelines))}, [][]float64{even(len(w.Pipelines))}
	if w.Memory > 0 {
		memory = fractions(len(w.Pipelines))
	}
	if w.Bandwidth > 0 {
		bandwidth = fractions(len(w.Pipelines))
	}
	for _, flat := range compositions(w.Workers, stages) {
		var rows [][]int
		for _, p := range w.Pipelines {
			row := make([]int, len(p.Stages))
			for k := range row {
				if !p.Stages[k].Waits {
					row[k], flat = flat[0], flat[1:]
				}
			}
			rows = append(rows, row)
		}
		for _, m := range memory {
			for _, b := range bandwidth {
				all = append(all, Split{rows, m, b})
			}
		}
	}
	return all
}

func computing(p *Pipeline) (n int) {
	for _, s := range p.Stages {
		if !s.Waits {
			n++
		}
	}
	return n
}

func even(n int) []float64 {
	f := make([]float64, n)
	for i := range f {
		f[i] = 1 / float64(n)
	}
	return f
}

func fractions(n int) (all [][]float64) {
	for _, c := range compositions(parts, n) {
		f := make([]float64, n)
		for i := range f {
			f[i] = float64(c[i]) / parts
		}
		all = append(all, f)
	}
	return all
}

// compositions are all ways to write n as a sum of k positive numbers.
func compositions(n, k int) (all [][]int) {
	if k == 1 {
		return [][]int{{n}}
	}
	for first := 1; first <= n-(k-1); first++ {
		for _, rest := range compositions(n-first, k-1) {
			all = append(all, append([]int{first}, rest...))
		}
	}
	return all
}
