package forecast

import "math"

// guard finds out whether waiting by the forecast pays. At each tick it notes what transfers were expected to take from every
// start in the window, and when the truth is known, what they would have taken. Of all starts together it learns, by least
// squares, how much of an expected difference comes true: the slope of the logarithms of durations within each window. It is
// near one for a good forecast and near zero for one that tells nothing of when to start, even if its level is right. All starts are
// used, not only the best, of which there is one a day: with days of history that is what makes it sure.
type guard struct {
	window int // ticks that a start may be put off
	stride int
	jobs   []float64 // slots at full rate
	limit  float64   // slots
	ring   []promise
	truth  []float64
	x, y   []float64

	xx, xy    float64 // fading sums
	now, then float64 // durations at once, and from the start that was expected to be best
	judged    float64
}

// promise is what was expected at a tick: for each job, the duration by the ticks waited.
type promise struct {
	at    int64
	costs [][]float32
}

const (
	// guardHalf is after how many ticks a window counts half: four days.
	guardHalf = 4 * 24 * 2
	// leastJudged is how many windows must have been seen: half a day.
	leastJudged = 24
	// leastSlope is the part of an expected difference that must come true, leastGain the part of the durations that must have been
	// saved: noise has some of either.
	leastSlope = .2
	leastGain  = .015
)

func newGuard(window, stride int, jobs []float64, limit float64) *guard {
	return &guard{window: window, stride: stride, jobs: jobs, limit: limit, x: make([]float64, window+1), y: make([]float64, window+1)}
}

// tick notes a forecast and judges those whose window is over.
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
	for len(g.ring) > 0 && g.ring[0].at+int64(g.window*g.stride)+int64(g.limit) <= h.Next() {
		g.judge(h, g.ring[0])
		g.ring = g.ring[1:]
	}
}

func (g *guard) judge(h *History, p promise) {
	if !g.load(h, p.at) {
		return
	}
	fade := math.Pow(.5, 1.0/guardHalf)
	g.xx, g.xy, g.now, g.then, g.judged = g.xx*fade, g.xy*fade, g.now*fade, g.then*fade, g.judged+1
	for j, job := range g.jobs {
		meanX, meanY, best := 0.0, 0.0, 0
		for s, cost := range p.costs[j] {
			g.x[s], g.y[s] = math.Log(float64(cost)), math.Log(Duration(g.truth, s*g.stride, job, g.limit))
			meanX += g.x[s] / float64(len(g.x))
			meanY += g.y[s] / float64(len(g.y))
			if cost < p.costs[j][best] {
				best = s
			}
		}
		for s := range g.x {
			g.xx += (g.x[s] - meanX) * (g.x[s] - meanX)
			g.xy += (g.x[s] - meanX) * (g.y[s] - meanY)
		}
		g.now += math.Exp(g.y[0]) / job
		g.then += math.Exp(g.y[best]) / job
	}
}

// load copies the truth of a window. A short gap is like what was before it; false if there is nothing before.
func (g *guard) load(h *History, from int64) bool {
	g.truth = g.truth[:0]
	for i := range g.window*g.stride + int(g.limit) {
		v := h.At(from + int64(i))
		if v != v {
			if i == 0 {
				return false
			}
			v = g.truth[i-1]
		}
		g.truth = append(g.truth, v)
	}
	return true
}

// slope is the part of expected differences that came true; 0 as long as that is not known.
func (g *guard) slope() float64 {
	if g.judged < leastJudged || g.xx == 0 {
		return 0
	}
	return g.xy / g.xx
}

// worth says whether waiting is.
func (g *guard) worth() bool { return g.slope() >= leastSlope && g.gain() >= leastGain }

// gain is the part of the durations that the starts expected to be best would have saved.
func (g *guard) gain() float64 {
	if g.now == 0 {
		return 0
	}
	return 1 - g.then/g.now
}
