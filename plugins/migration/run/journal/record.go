package journal

import (
	"encoding/json"
	"time"
)

// Kind of a record.
type Kind string

// The kinds, in about the order in which a move writes them.
const (
	Epoch      Kind = "epoch"     // a manager started: its Epoch
	Planned    Kind = "planned"   // a move was accepted: its Plan
	Reached    Kind = "reached"   // a Phase is about to be entered; Boot once it is known
	StepBegun  Kind = "step"      // Step is about to be done
	StepDone   Kind = "step-done" // Step was done
	StepUndone Kind = "step-undone"
	// Leaving says that the memory which only the source has is left to post-copy: Plan is what is needed to go on with it.
	Leaving Kind = "leaving"
	// Committed is the point after which the source never runs again.
	Committed Kind = "committed"
	// Undoing says that the move goes back, and why. It stands behind Committed only when the destination is known to be
	// gone without a first instruction; and Committed behind it when the source turns out to be gone. Its Phase is "undo",
	// then in a second one "recalled": the source may run from there on, and no Committed follows. One without a Phase is of a
	// version that wrote no second one, and counts as such.
	Undoing Kind = "undoing"
	// Ended closes a move: Outcome, and Text for what an operator should know.
	Ended Kind = "ended"
	// Past is what is kept of an ended move when the journal is rewritten: Plan is its summary.
	Past Kind = "past"
)

// Record is one line. Which fields it has is told by its kind.
type Record struct {
	Seq     uint64          `json:"seq"` // 1, 2, … over the life of the journal
	At      time.Time       `json:"at"`
	Kind    Kind            `json:"kind"`
	Move    string          `json:"move,omitempty"`
	Epoch   uint64          `json:"epoch,omitempty"`
	Plan    json.RawMessage `json:"plan,omitempty"`
	Phase   string          `json:"phase,omitempty"`
	Step    int             `json:"step,omitempty"`
	Boot    string          `json:"boot,omitempty"` // boot ID of the guest
	Outcome string          `json:"outcome,omitempty"`
	Text    string          `json:"text,omitempty"`
}
