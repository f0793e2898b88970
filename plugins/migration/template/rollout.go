package template

import (
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Rollout is the order in which an expansion is carried out. It keeps no state: what to do next follows from what has
// become of the moves, so a manager that was restarted asks again.
type Rollout struct {
	// Waves are the IDs of the plans.
	Waves [][]string `json:"waves"`
	// Canary is set when all of the first wave must arrive.
	Canary  bool          `json:"canary,omitempty"`
	Allowed int           `json:"allowed"` // failures
	Pause   time.Duration `json:"pause,omitempty"`
}

// Result is what has become of a move; the zero one was not begun.
type Result struct {
	State State     `json:"state"`
	Ended time.Time `json:"ended,omitzero"`
}

// State of a move.
type State string

// States. Failed is a VM that is still where it was.
const (
	Waiting State = ""
	Moving  State = "moving"
	Arrived State = "arrived"
	Failed  State = "failed"
)

// Next is what to do now: start moves, wait until a time, or, when both are empty, wait for a move to end.
type Next struct {
	Start []string
	Until time.Time
	// Stopped is why nothing more is started, "" as long as the rollout goes on.
	Stopped string
	// Done tells that nothing is under way and nothing will be.
	Done bool
}

// Rollout is the order of an expansion of the template.
func (e Expansion) Rollout(t model.Template) Rollout {
	r := Rollout{Allowed: max(t.Failures.Max, t.Failures.Percent*e.Selected/100), Pause: time.Duration(t.Waves.Pause)}
	for i, w := range e.Waves {
		r.Canary = r.Canary || i == 0 && w.Canary
		var ids []string
		for _, p := range w.Moves {
			ids = append(ids, p.ID)
		}
		r.Waves = append(r.Waves, ids)
	}
	return r
}

// Next decides by what has become of the moves so far.
func (r Rollout) Next(results map[string]Result, now time.Time) Next {
	moving, failed := 0, 0
	for _, x := range results {
		switch x.State {
		case Moving:
			moving++
		case Failed:
			failed++
		}
	}
	if failed > r.Allowed {
		return Next{Stopped: fmt.Sprintf("%d moves have failed, and the budget is %d", failed, r.Allowed), Done: moving == 0}
	}
	var before time.Time // when the last move of the waves so far ended
	for i, wave := range r.Waves {
		var start []string
		lost := 0
		last := before
		for _, id := range wave {
			x := results[id]
			switch x.State {
			case Waiting:
				start = append(start, id)
			case Failed:
				lost++
			}
			if x.Ended.After(last) {
				last = x.Ended
			}
		}
		switch canary := r.Canary && i == 0; {
		case canary && lost > 0:
			return Next{Stopped: fmt.Sprintf("%d of the %d canaries have failed", lost, len(wave)), Done: moving == 0}
		// A wave that ended in the future ended before the clock was set back: nobody waits for that.
		case len(start) == len(wave) && i > 0 && !before.After(now) && now.Before(before.Add(r.Pause)):
			return Next{Until: before.Add(r.Pause)}
		case len(start) > 0:
			return Next{Start: start}
		case moving > 0:
			return Next{} // only the wave that is under way can have any
		}
		before = last
	}
	return Next{Done: true}
}
