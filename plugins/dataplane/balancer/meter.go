package balancer

import (
	"slices"
	"time"
)

// meter remembers the last durations of something.
type meter struct {
	last  []time.Duration
	next  int
	total uint64
}

// meterSize is how many a meter remembers; nothing is held before the first.
const meterSize = 512

func (m *meter) note(d time.Duration) {
	m.total++
	if len(m.last) < meterSize {
		m.last = append(m.last, d)
		return
	}
	m.last[m.next] = d
	m.next = (m.next + 1) % meterSize
}

// quantile of what is remembered; 0 when that is nothing.
func (m *meter) quantile(q float64) time.Duration {
	if len(m.last) == 0 {
		return 0
	}
	all := slices.Sorted(slices.Values(m.last))
	return all[min(len(all)-1, int(q*float64(len(all))))]
}

// meters are the part's own. They are guarded by run.mu.
type meters struct {
	effect  meter // from a report's arrival until its credits are in force
	ring    meter // from a VIP's mark until its ring is in force
	applied uint64
	refused uint64
	rebased uint64
	// malformed datagrams came from a proven host all the same.
	malformed uint64
	foreign   uint64 // a peer's flows to VIPs or backends that are not ours
}

// count raises one of the meters.
func (r *run) count(n *uint64) {
	r.mu.Lock()
	*n++
	r.mu.Unlock()
}
