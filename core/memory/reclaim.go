package memory

const (
	// step is asked for at once, in bytes: the kernel takes a tenth of a second for it, the pages that are in use are
	// seen to be used before the next one.
	step = 2 << 20
	// maxSteps bounds it all: there is nothing else that is cold than the file system in memory and core's heap.
	maxSteps = 20
	// A step is in vain when it brings less than gain, in bytes: what it took could hardly be compressed, as the
	// kernel modules of the image, which are compressed already. The next may bring more, so that it takes several
	// in a row to end.
	gain     = step / 8
	patience = 4
	// hot is how many pages fetched back between two steps say that what was taken is in use: half of it.
	hot = step / 4096 / 2
)

// sample is what is seen before a step.
type sample struct {
	saved     int64  // bytes: what lies compressed, less what that takes
	swappedIn uint64 // pages, ever
}

// reclaimer decides how often the kernel is asked to reclaim memory. The zero value is ready.
type reclaimer struct {
	steps, vain int
	last        sample
}

// next takes what is seen and says whether there is another step.
func (r *reclaimer) next(now sample) bool {
	fetched := now.swappedIn - min(r.last.swappedIn, now.swappedIn)
	switch {
	case r.steps == 0: // nothing to compare with
	case now.saved < r.last.saved+gain, fetched > hot:
		r.vain++
	default:
		r.vain = 0
	}
	r.last = now
	r.steps++
	return r.vain < patience && r.steps <= maxSteps
}
