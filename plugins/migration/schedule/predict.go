package schedule

import "time"

// Load is what of a VM decides how long its move takes.
type Load struct {
	// Bytes of memory, and of local disks, that have to be sent at least once.
	Bytes uint64 `json:"bytes"`
	// Dirty is how many bytes of memory a second the guest writes to, by page: one written twice in a second counts once.
	Dirty float64 `json:"dirty"`
	// WorkingSet is in how many bytes those writes fall; 0 is not known, and taken as Bytes.
	WorkingSet uint64 `json:"working_set,omitempty"`
}

// Rate is how many bytes a second can be sent, by the time since the start.
type Rate func(after time.Duration) float64

// Constant is a Rate that does not change.
func Constant(bytesPerSecond float64) Rate {
	return func(time.Duration) float64 { return bytesPerSecond }
}

// Prediction of a move.
type Prediction struct {
	// Total is the time from the start until the source is no longer needed.
	Total time.Duration `json:"total"`
	// Gap is how long the guest stands still.
	Gap   time.Duration `json:"gap"`
	Bytes uint64        `json:"bytes"`
	// Passes over memory, the first included.
	Passes int `json:"passes"`
	// Converges: what is left becomes little enough to be sent within the gap that is allowed.
	Converges bool `json:"converges"`
}

const (
	// Longest is a transfer that is not waited for.
	Longest = 24 * time.Hour
	// maxPasses bounds the prediction; a hypervisor has none.
	maxPasses = 512
	// shrinks is by how much a pass must be smaller than the one before to count as progress, patience how many in a row
	// may not be.
	shrinks  = .98
	patience = 4
	// switching is what a stop, the state of the devices and the start take beside the memory.
	switching = 50 * time.Millisecond
	// tick is the shortest time for which the rate is asked.
	tick = 100 * time.Millisecond
)

// PreCopy predicts a move that sends memory while the guest runs, and again what the guest has written meanwhile, until what is
// left can be sent within gap. A pass of length T leaves Dirty·T bytes, and not more than the working set: a guest
// that writes to little converges however quickly it writes, if the little can be sent within the gap.
func PreCopy(l Load, rate Rate, gap time.Duration) (p Prediction) {
	set := float64(l.WorkingSet)
	if set == 0 {
		set = float64(l.Bytes)
	}
	left, stuck := float64(l.Bytes), 0
	for p.Passes < maxPasses && p.Total < Longest {
		allowed := rate(p.Total) * max(0, (gap-switching).Seconds())
		if p.Passes > 0 && left <= allowed {
			p.Converges = true
			break
		}
		took := send(left, rate, p.Total)
		p.Passes++
		p.Total += took
		p.Bytes += uint64(left)
		next := min(set, l.Dirty*took.Seconds())
		if stuck++; next < left*shrinks {
			stuck = 0
		}
		if left = next; stuck >= patience {
			break
		}
	}
	p.Gap = switching + send(left, rate, p.Total)
	p.Total += p.Gap
	p.Bytes += uint64(left)
	return p
}

// PostCopy predicts a move that lets the guest run at the target at once and sends every page once.
func PostCopy(l Load, rate Rate) Prediction {
	total := send(float64(l.Bytes), rate, 0)
	return Prediction{Total: total + 2*switching, Gap: 2 * switching, Bytes: l.Bytes, Passes: 1, Converges: true}
}

// send is how long n bytes take from a time on.
func send(n float64, rate Rate, from time.Duration) (took time.Duration) {
	for took < Longest {
		bps := max(1, rate(from+took))
		// Short steps where it matters: a tenth of what is behind, so that an hour is not walked through by tick.
		step := max(tick, (from+took)/64)
		if n <= bps*step.Seconds() {
			return took + time.Duration(n/bps*float64(time.Second))
		}
		n -= bps * step.Seconds()
		took += step
	}
	return Longest
}
