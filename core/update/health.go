package update

import "time"

// health is the engine that calls a boot healthy. It is stepped with the boot clock and has no clock of its own.
type health struct {
	times Times
	// onTrial is that of a slot which is not first in the order yet.
	onTrial bool
	began   time.Duration
	since   time.Duration // ready without a break since; valid with ready
	ready   bool
	decided bool
}

// decision is what a step comes to, once in a boot.
type decision int

const (
	wait decision = iota
	healthy
	failed // a trial that took too long
)

func newHealth(t Times, onTrial bool, now time.Duration) *health {
	return &health{times: t, onTrial: onTrial, began: now}
}

// step is told whether all plugins serve.
func (h *health) step(now time.Duration, ready bool) decision {
	if h.decided {
		return wait
	}
	switch {
	case !ready:
		h.ready = false
	case !h.ready:
		h.ready, h.since = true, now
	}
	switch {
	case h.ready && now-h.since >= h.times.Healthy:
		h.decided = true
		return healthy
	case h.onTrial && now-h.began >= h.times.Deadline:
		h.decided = true
		return failed
	}
	return wait
}
