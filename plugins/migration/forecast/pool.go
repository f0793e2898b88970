package forecast

import (
	"math"
	"slices"
)

// buckets of how far ahead a slot is. Errors are alike within one.
const buckets = 6

var bucketEnds = [buckets]float64{.5, 1, 2, 4, 8, math.MaxFloat64} // hours

func bucket(k int, day int64) int {
	hours := float64(k+1) * 24 / float64(day)
	for b, end := range bucketEnds {
		if hours <= end+1e-9 {
			return b
		}
	}
	return buckets - 1
}

// span is the slots ahead that are in a bucket; the last one ends after 18 hours.
func span(b int, day int64) (from, to int) {
	hour := float64(day) / 24
	if b > 0 {
		from = int(bucketEnds[b-1] * hour)
	}
	to = int(min(18, bucketEnds[b]) * hour)
	return from, max(to, from+1)
}

// pool mixes methods by how good they were lately, and learns from the errors of the mix how wide its band has to be.
type pool struct {
	day     int64
	stride  int // slots between the points at which a forecast is judged
	points  int
	methods []Method
	loss    []float64 // fading mean of the pinball loss
	known   []bool    // whether there is one
	judged  float64
	errors  [][buckets]residuals // of each method's median
	adjust  [levels][buckets]residuals
	pending []made
	scratch []*Band
}

// made is a forecast that waits for the truth.
type made struct {
	at      int64
	offset  int                 // of its points
	methods [][levels][]float32 // means from each point to the next
	mixed   [levels][]float32
	said    [levels][]float32 // the mix as it was widened
}

const (
	// warmup is how many forecasts are left out of what is learnt of the mix: the methods still learn themselves.
	warmup = 2 * 24 * 2
	// adapt is by how much a level is moved for a forecast whose share of truths below it was wrong (Gibbs and Candès, "Adaptive
	// Conformal Inference", 2021), mostShift how far.
	adapt = .15
	// beyond is how much further out than the worst errors until now the outer levels go when even those have not been enough.
	beyond    = 1.2
	mostShift = .09
	lossHalf  = 4 * 24 * 2 // ticks after which a loss counts half
	lossFloor = 1e-6
)

// residuals are the last errors, for their quantiles.
type residuals struct {
	ring []float32
	at   int
	memo []float64
	new  int // since q was computed
	q    [levels]float64
	// shift moves the levels: see pool.judge.
	shift [levels]float64
}

const (
	residualsKept = 384 // of a bucket: about a week
	residualsNew  = 6   // quantiles of hundreds hardly move for a few more
)

func (r *residuals) add(e float64) {
	r.new++
	if len(r.ring) < residualsKept {
		r.ring = append(r.ring, float32(e))
		return
	}
	r.ring[r.at] = float32(e)
	r.at = (r.at + 1) % residualsKept
}

// quantiles of the errors; zeros for none.
func (r *residuals) quantiles() [levels]float64 {
	if r.new == 0 || r.new < residualsNew && len(r.ring) > 8*residualsNew {
		return r.q
	}
	r.new = 0
	r.memo = r.memo[:0]
	for _, e := range r.ring {
		r.memo = append(r.memo, float64(e))
	}
	slices.Sort(r.memo)
	for q := range Levels {
		at := min(1, max(0, Levels[q]+r.shift[q])) * float64(len(r.memo)-1)
		i := int(at)
		r.q[q] = r.memo[i] + (at-float64(i))*(r.memo[min(i+1, len(r.memo)-1)]-r.memo[i])
	}
	return r.q
}

func newPool(day int64, horizon, stride int, methods []Method) *pool {
	p := &pool{day: day, stride: stride, points: horizon / stride, methods: methods}
	p.loss, p.known = make([]float64, len(methods)), make([]bool, len(methods))
	p.errors = make([][buckets]residuals, len(methods))
	for range methods {
		p.scratch = append(p.scratch, NewBand(horizon))
	}
	return p
}

// sharpness is how much a method suffers in the mix from being worse than the best: one whose loss is a quarter more has 1/e of its
// weight. A mix of several is better than the best of them alone, so this is mild.
const sharpness = 4

// weights of the methods; they sum up to one. One that could not say anything yet has what the worst has: as soon as it can, it
// is judged as the others are.
func (p *pool) weights() []float64 {
	best, worst := math.Inf(1), 0.0
	for i, l := range p.loss {
		if p.known[i] {
			best, worst = min(best, l), max(worst, l)
		}
	}
	w := make([]float64, len(p.methods))
	sum := 0.0
	for i, l := range p.loss {
		switch {
		case math.IsInf(best, 1):
			l = 0 // nothing is known of any
		case !p.known[i]:
			l = worst - best
		default:
			l -= best
		}
		w[i] = math.Exp(-sharpness * l / (min(best, math.MaxFloat64) + lossFloor))
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// bands lets every method forecast.
func (p *pool) bands(h *History) {
	for i, m := range p.methods {
		b := p.scratch[i]
		if m, ok := m.(banded); ok {
			m.Band(h, b)
			continue
		}
		m.Median(h, b.Q[Q50])
		for k, v := range b.Q[Q50] {
			e := p.errors[i][bucket(k, p.day)].quantiles()
			for q := range b.Q {
				b.Q[q][k] = v + e[q]
			}
		}
	}
}

// mix writes the weighted mean of the methods' quantiles.
func (p *pool) mix(b *Band) {
	w := p.weights()
	for q := range b.Q {
		for k := range b.Q[q] {
			sum, total := 0.0, 0.0
			for i, m := range p.scratch {
				if v := m.Q[q][k]; v == v {
					sum += w[i] * v
					total += w[i]
				}
			}
			b.Q[q][k] = sum / total // NaN if no method can say
		}
	}
	b.expect()
}

// forecast writes the band of the next slots. Its length is the horizon.
func (p *pool) forecast(h *History, b *Band) {
	b.From = h.Next()
	p.bands(h)
	p.mix(b)
	p.widen(b)
}

// widen moves the mix by how far its quantiles were off.
func (p *pool) widen(b *Band) {
	for k := range b.Len() {
		i := bucket(k, p.day)
		for q := range b.Q {
			b.Q[q][k] += p.adjust[q][i].quantiles()[q]
		}
	}
	b.settle()
	for k, mid := range b.Q[Q50] {
		i := bucket(k, p.day)
		low, high := -p.adjust[Q10][i].shift[Q10]/mostShift, p.adjust[Q90][i].shift[Q90]/mostShift
		b.Q[Q10][k] = max(0, b.Q[Q10][k]-beyond*max(0, low)*(mid-b.Q[Q10][k]))
		b.Q[Q90][k] = min(1, b.Q[Q90][k]+beyond*max(0, high)*(b.Q[Q90][k]-mid))
	}
}

// tick makes a forecast to be judged later, and judges those whose truth is known.
func (p *pool) tick(h *History, b *Band) {
	b.From = h.Next()
	p.bands(h)
	p.mix(b)
	// Points move from tick to tick: what happens every half hour would be met always or never.
	m := made{at: h.Next(), offset: int(mod(h.Next()/int64(p.stride), int64(p.stride)))}
	m.mixed = p.sampled(b, m.offset)
	for _, s := range p.scratch {
		m.methods = append(m.methods, p.means(s))
	}
	p.widen(b)
	m.said = p.sampled(b, m.offset)
	p.pending = append(p.pending, m)
	for len(p.pending) > 0 && p.pending[0].at+int64(p.points*p.stride) <= h.Next() {
		p.judge(h, p.pending[0])
		p.pending = p.pending[1:]
	}
}

func (p *pool) sampled(b *Band, offset int) (out [levels][]float32) {
	for q := range b.Q {
		for j := range p.points {
			out[q] = append(out[q], float32(b.Q[q][j*p.stride+offset]))
		}
	}
	return out
}

// means is a band by what it has from each point to the next.
func (p *pool) means(b *Band) (out [levels][]float32) {
	for q := range b.Q {
		for j := range p.points {
			sum := 0.0
			for _, v := range b.Q[q][j*p.stride : (j+1)*p.stride] {
				sum += v / float64(p.stride)
			}
			out[q] = append(out[q], float32(sum))
		}
	}
	return out
}

// judge learns from a forecast whose time has come.
func (p *pool) judge(h *History, m made) {
	p.judged++
	warm := p.judged > warmup
	p.score(h, m)
	if warm {
		p.calibrate(h, m)
	}
	p.keepErrors(h, m, warm)
}

// score brings the losses up to date, by which the methods are mixed.
func (p *pool) score(h *History, m made) {
	fade := max(1/p.judged, 1-math.Pow(.5, 1.0/lossHalf))
	for i, f := range m.methods {
		loss, n := 0.0, 0
		for j := range p.points {
			// Transfers take many slots: what counts is the mean of some, not the noise of each.
			at := m.at + int64(j*p.stride)
			truth, known := h.Mean(at, at+int64(p.stride))
			if known == 0 || f[Q50][j] != f[Q50][j] {
				continue
			}
			for q, level := range Levels {
				loss += pinball(level, truth, float64(f[q][j]))
				n++
			}
		}
		switch {
		case n == 0:
		case !p.known[i]:
			p.loss[i], p.known[i] = loss/float64(n), true
		default:
			p.loss[i] += fade * (loss/float64(n) - p.loss[i])
		}
	}
}

// calibrate shifts the levels of the mixture towards the share of the truth that is to lie below each.
func (p *pool) calibrate(h *History, m made) {
	for q := range m.mixed {
		for b := range buckets {
			a := &p.adjust[q][b]
			hits, n := 0.0, 0.0
			for j := range p.points {
				if bucket(j*p.stride, p.day) != b {
					continue
				}
				truth := h.At(m.at + int64(j*p.stride+m.offset))
				if v := float64(m.said[q][j]); truth == truth && v == v {
					n++
					if truth <= v {
						hits++
					}
				}
			}
			if n > 0 {
				a.shift[q] = max(-mostShift, min(mostShift, a.shift[q]+adapt*(Levels[q]-hits/n)))
			}
		}
	}
}

// keepErrors keeps one error of each bucket a tick: those of one forecast are much alike.
func (p *pool) keepErrors(h *History, m made, warm bool) {
	seen := [buckets]int{}
	tick := int(m.at/int64(p.stride)) & math.MaxInt32
	count := [buckets]int{}
	for j := range p.points {
		count[bucket(j*p.stride, p.day)]++
	}
	for j := range p.points {
		b := bucket(j*p.stride, p.day)
		seen[b]++
		if (tick*5)%count[b] != seen[b]-1 {
			continue
		}
		truth := h.At(m.at + int64(j*p.stride+m.offset))
		if truth != truth {
			continue
		}
		for i := range m.methods {
			if v := float64(m.methods[i][Q50][j]); v == v {
				p.errors[i][b].add(truth - v)
			}
		}
		for q := range m.mixed {
			if v := float64(m.mixed[q][j]); v == v && warm {
				p.adjust[q][b].add(truth - v)
			}
		}
	}
}
