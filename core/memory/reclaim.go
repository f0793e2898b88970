package memory

const (
	// step is asked for at once, in bytes: the kernel takes a tenth of a second for it, the pages that are in use are
	// seen to be used before the next one.
	step = 2 << 20
	// maxSteps bounds it all: there is nothing else that is cold than the file system in memory and core's heap.
	maxSteps = 20
	// A step is in vain when it brings less than gain, in bytes: what it took could hardly be compressed, as the
	// kernel modules of the image, which are compressed already. Behind those the next may bring more.
	gain     = step / 8
	patience = 4
	// hot is how many pages fetched back between two steps say that what is left is in use: half of what was taken.
	hot = step / 4096 / 2
)

// sample is what is seen before a step.
type sample struct {
	available uint64 // bytes
	swappedIn uint64 // pages, ever
}

// reclaimer decides how often the kernel is asked to reclaim memory. The zero value is ready.
type reclaimer struct {
	steps, vain int
	best        uint64 // the most that was available
	swappedIn   uint64
}

// next takes what is seen and says whether there is another step.
func (r *reclaimer) next(now sample) bool {
	fetched := now.swappedIn - min(r.swappedIn, now.swappedIn)
	r.swappedIn = now.swappedIn
	switch {
	case r.steps == 0: // nothing to compare with
		r.best = now.available
	case fetched > hot:
		return false
	case now.available >= r.best+gain:
		r.best, r.vain = now.available, 0
	default:
		r.vain++
	}
	r.steps++
	return r.vain < patience && r.steps <= maxSteps
}
