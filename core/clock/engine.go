package clock

import (
	"fmt"
	"slices"
	"time"
)

// sample is what one server said: how far this clock is behind (offset > 0) or ahead, and the
// greatest error that the way to the server can have added.
type sample struct {
	server string
	offset time.Duration
	margin time.Duration
}

// kind of what is to be done.
type kind string

const (
	kindReject kind = "reject" // nothing usable
	kindSlew   kind = "slew"   // let the clock run faster or slower for a while
	kindStep   kind = "step"   // set it
)

// decision is what the samples of one round amount to.
type decision struct {
	kind   kind
	offset time.Duration
	used   []string // servers that agree
	why    string   // for kindReject
}

// StepThreshold is the offset from which the clock is set instead of slewed.
const StepThreshold = time.Second

// decide combines one round of samples. Servers agree when their intervals offset ± margin
// overlap; the largest such group wins and must be more than half of all that answered. Its
// most exact member gives the offset, which must not take the clock below the floor.
func decide(samples []sample, now, floor time.Time) decision {
	if len(samples) == 0 {
		return decision{kind: kindReject, why: "no server answered"}
	}
	group := agreeing(samples)
	if 2*len(group) <= len(samples) {
		return decision{kind: kindReject, why: fmt.Sprintf("servers contradict each other: %s", describe(samples))}
	}
	best := slices.MinFunc(group, func(a, b sample) int { return int(a.margin - b.margin) })
	d := decision{offset: best.offset}
	for _, s := range group {
		d.used = append(d.used, s.server)
	}
	if target := now.Add(best.offset); target.Before(floor) {
		return decision{kind: kindReject, why: fmt.Sprintf("%s says %s, which is before this image was built (%s)",
			best.server, target.UTC().Format(time.DateTime), floor.UTC().Format(time.DateTime))}
	}
	d.kind = kindSlew
	if best.offset.Abs() > StepThreshold {
		d.kind = kindStep
	}
	return d
}

// agreeing finds the largest group of samples that share a point in time: the lower ends of
// the intervals are the only points that need looking at.
func agreeing(samples []sample) []sample {
	var best []sample
	for _, candidate := range samples {
		point := candidate.offset - candidate.margin
		var group []sample
		for _, s := range samples {
			if s.offset-s.margin <= point && point <= s.offset+s.margin {
				group = append(group, s)
			}
		}
		if len(group) > len(best) {
			best = group
		}
	}
	return best
}

func describe(samples []sample) string {
	text := ""
	for i, s := range samples {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %+.3fs", s.server, s.offset.Seconds())
	}
	return text
}

// Pauses between rounds.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	interval   = 17 * time.Minute // 1024 s, NTP's customary longest poll
)

// nextRound is the pause after failures rounds in a row without a usable answer, 0 after a
// good one. spread is a random number from 0 to 1 that keeps a fleet from asking in step.
func nextRound(failures int, spread float64) time.Duration {
	pause := interval
	if failures > 0 {
		pause = min(firstRetry<<min(failures-1, 20), lastRetry)
	}
	return time.Duration(float64(pause) * (0.75 + 0.5*spread))
}
