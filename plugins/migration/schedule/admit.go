package schedule

import (
	"fmt"
	"time"
)

// Mode is how memory is sent.
type Mode string

// Modes, from the one that asks least of the guest.
const (
	ModePreCopy  Mode = "pre-copy"
	ModeThrottle Mode = "throttle"  // pre-copy of a guest that is held back
	ModePostCopy Mode = "post-copy" // the guest runs before its memory is there
)

// MostThrottle is the part of its time that a guest is held back at most.
const MostThrottle = .8

// Policy is what a move may cost.
type Policy struct {
	Gap      time.Duration // 0 means 300 ms
	Deadline time.Duration // from the start of the transfer; 0 is none
	Throttle bool
	PostCopy bool
}

const defaultGap = 300 * time.Millisecond

// Verdict is whether and how a move may start.
type Verdict struct {
	Admitted bool `json:"admitted"`
	Mode     Mode `json:"mode,omitempty"`
	Prediction
	// Latest is the total that is exceeded one time in ten.
	Latest time.Duration `json:"latest"`
	// Why says in words what was decided, and what was not possible.
	Why []string `json:"why"`
}

// Admit decides how a VM is moved at a rate that is expected, and one that is almost sure: the bandwidth that is exceeded nine
// times in ten. Pre-copy is admitted only if it converges at the latter. It is to be asked before a byte is sent.
func Admit(l Load, expected, sure Rate, p Policy) Verdict {
	gap := p.Gap
	if gap <= 0 {
		gap = defaultGap
	}
	var why []string
	fits := func(mode Mode, dirty float64, likely, bad Prediction) bool {
		switch {
		case bad.Total >= Longest:
			why = append(why, fmt.Sprintf("%s would take more than %s at the %s that are sure", mode, short(Longest), PerSecond(sure(0))))
			return false
		case !bad.Converges:
			why = append(why, fmt.Sprintf("%s would not end: the guest writes %s, and only %s are sure", mode, PerSecond(dirty), PerSecond(sure(0))))
			return false
		case likely.Gap > gap && mode != ModePreCopy:
			why = append(why, fmt.Sprintf("%s would stop the guest for %s, more than the %s allowed", mode, short(likely.Gap), short(gap)))
			return false
		case p.Deadline > 0 && bad.Total > p.Deadline:
			why = append(why, fmt.Sprintf("%s would take up to %s, more than the deadline of %s", mode, short(bad.Total), short(p.Deadline)))
			return false
		}
		return true
	}
	admit := func(mode Mode, likely, bad Prediction) Verdict {
		why = append(why, fmt.Sprintf("%s: about %s for %s, gap about %s", mode, short(likely.Total), Bytes(likely.Bytes), short(likely.Gap)))
		return Verdict{Admitted: true, Mode: mode, Prediction: likely, Latest: bad.Total, Why: why}
	}

	likely, bad := PreCopy(l, expected, gap), PreCopy(l, sure, gap)
	if fits(ModePreCopy, l.Dirty, likely, bad) {
		return admit(ModePreCopy, likely, bad)
	}
	// Post-copy before throttling where both are allowed: it is bounded, and does not slow the guest for long.
	if p.PostCopy {
		once, late := PostCopy(l, expected), PostCopy(l, sure)
		if fits(ModePostCopy, 0, once, late) {
			return admit(ModePostCopy, once, late)
		}
	}
	if p.Throttle {
		held := l
		held.Dirty *= 1 - MostThrottle
		slow, late := PreCopy(held, expected, gap), PreCopy(held, sure, gap)
		if fits(ModeThrottle, held.Dirty, slow, late) {
			return admit(ModeThrottle, slow, late)
		}
	}
	switch {
	case !p.PostCopy && !p.Throttle:
		why = append(why, "allow post-copy or throttling, give the move more bandwidth, or wait until the guest writes less")
	default:
		why = append(why, "give the move more bandwidth or a longer deadline, or wait until the guest writes less")
	}
	return Verdict{Prediction: likely, Latest: bad.Total, Why: why}
}
