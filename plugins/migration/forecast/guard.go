package forecast

import "math"

// guard finds out how much a forecast has to promise before it is worth waiting for, by doing what a scheduler would have done
// at each tick of the last days and counting what it would have cost. If waiting has not paid at all, nothing is
// worth waiting for.
type guard struct {
	window int // ticks that a start may be put off
	stride int
	jobs   []float64 // slots at full rate
	limit  float64   // slots
	ring   []promise
	scores [len(Patiences)]score
	buf    []float64
}

// Patiences are what is tried: start now unless waiting is promised to save more than this part. The last never waits.
var Patiences = [...]float64{0, .1, .3, math.Inf(1)}

// promise is what was expected at a tick: for each job, the duration by the ticks waited.
type promise struct {
	at    int64
	costs [][]float32
}

// score is what a patience has cost and what starting at once would have, as fading sums.
type score struct{ cost, now, n float64 }

// guardHalf is after how many ticks a decision counts half: four days.
const guardHalf = 4 * 24 * 2

func newGuard(window, stride int, jobs []float64, limit float64) *guard {
	return &guard{window: window, stride: stride, jobs: jobs, limit: limit}
}

func (g *guard) tick(h *History, b *Band) {
	p := promise{at: b.From}
	for _, job := range g.jobs {
		costs := make([]float32, g.window+1)
		for s := range costs {
			costs[s] = float32(b.Expected(s*g.stride, job, g.limit))
		}
		p.costs = append(p.costs, costs)
	}
	g.ring = append(g.ring, p)
	for len(g.ring) > g.window && g.ring[0].at+int64(g.window*g.stride)+int64(g.limit) <= h.Next() {
		g.judge(h)
		g.ring = g.ring[1:]
	}
}

// judge lets every patience decide as from the oldest tick.
func (g *guard) judge(h *History) {
	from := g.ring[0].at
	n := g.window*g.stride + int(g.limit)
	g.buf = g.buf[:0]
	for i := range n {
		v := h.At(from + int64(i))
		if v != v { // a short gap is like what was before it
			if i == 0 {
				return
			}
			v = g.buf[i-1]
		}
		g.buf = append(g.buf, v)
	}
	fade := math.Pow(.5, 1.0/guardHalf)
	for j, job := range g.jobs {
		now := Duration(g.buf, 0, job, g.limit)
		for i, patience := range Patiences {
			cost := Duration(g.buf, g.start(j, patience)*g.stride, job, g.limit)
			s := &g.scores[i]
			s.n = s.n*fade + 1
			s.cost = s.cost*fade + cost/job
			s.now = s.now*fade + now/job
		}
	}
}

// start is the tick, counted from the oldest, at which a job would have started.
func (g *guard) start(job int, patience float64) int {
	for t := range g.window {
		costs := g.ring[t].costs[job]
		best := costs[0]
		for s := 1; t+s <= g.window; s++ {
			best = min(best, costs[s])
		}
		if float64(costs[0]) <= float64(best)*(1+patience)+1e-9 {
			return t
		}
	}
	return g.window
}

// sure is by how many standard errors waiting has to have paid.
// hurdle is the part of the duration that waiting must have saved on average: a back-test of days has seen little.
const hurdle = .01

// patience is the one that would have cost least, and the part that it would have saved.
func (g *guard) patience() (patience, gain float64) {
	patience = math.Inf(1)
	for i, s := range g.scores {
		if s.n < 1 || s.now == 0 {
			continue
		}
		if part := 1 - s.cost/s.now; part > max(gain, hurdle) {
			patience, gain = Patiences[i], part
		}
	}
	return patience, gain
}
