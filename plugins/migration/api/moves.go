package api

import (
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

// Methods about moves.
const (
	MethodPlan    = "moves.plan"    // MoveRequest → PlanReply; changes nothing
	MethodApply   = "moves.apply"   // MoveRequest → ApplyReply
	MethodMoves   = "moves.list"    // MovesRequest → MovesReply
	MethodCancel  = "moves.cancel"  // IDRequest → empty
	MethodRetry   = "moves.retry"   // IDRequest → empty; one that is held goes on
	MethodAccept  = "moves.accept"  // IDRequest → empty; one that is held has ended: the VM at the target is the right one
	MethodHistory = "moves.history" // MovesRequest → MovesReply
)

// MoveRequest is what shall be moved: a VM to a host, or what a template selects.
type MoveRequest struct {
	VM   string `json:"vm,omitempty"`
	Host string `json:"host,omitempty"` // of the VM, when several have one of that name
	To   string `json:"to,omitempty"`
	// Type names a configured one. What Change says as well, it says over it.
	Type   string       `json:"type,omitempty"`
	Change model.VMType `json:"change,omitzero"`
	// Goal is the configuration's where it is empty.
	Goal     *model.Goal `json:"goal,omitempty"`
	Template string      `json:"template,omitempty"`
	Priority int         `json:"priority,omitempty"`
	// When is WhenNow (the default) or WhenBest.
	When string `json:"when,omitempty"`
	// NotBefore is the earliest start; with it, a slot is looked for as with WhenBest.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Windows are names of maintenance windows: it happens in one of them.
	Windows []string `json:"windows,omitempty"`
}

// When a move may begin.
const (
	WhenNow  = "now"
	WhenBest = "best" // in the slot that the forecast of its link advises
)

// PlanReply answers MethodPlan.
type PlanReply struct {
	Plans []Planned `json:"plans"`
	// Waves are names of VMs by what goes together; only of a template.
	Waves    [][]string `json:"waves,omitempty"`
	Warnings []string   `json:"warnings,omitempty"`
	// Text shows all of a template for people.
	Text string `json:"text,omitempty"`
}

// Planned is what would be done with one VM, or why it cannot be.
type Planned struct {
	VM       string         `json:"vm"`
	From     string         `json:"from"`
	To       string         `json:"to"`
	Plan     *plan.Plan     `json:"plan,omitempty"` // nil when refused
	Refusals []plan.Refusal `json:"refusals,omitempty"`
	// Text is the same for people.
	Text string `json:"text"`
}

// ApplyReply answers MethodApply: what was begun, and what was not.
type ApplyReply struct {
	Moves    []Begun   `json:"moves"`
	Refused  []Planned `json:"refused,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Begun is a move that was accepted.
type Begun struct {
	ID   string `json:"id"`
	VM   string `json:"vm"`
	From string `json:"from"`
	To   string `json:"to"`
	// At is when it begins, with the reason; zero for at once.
	At  time.Time `json:"at,omitzero"`
	Why string    `json:"why,omitempty"`
}

// MovesRequest asks for one move, or for all; Last bounds a history.
type MovesRequest struct {
	ID   string `json:"id,omitempty"`
	Last int    `json:"last,omitempty"`
}

// MovesReply lists moves, the oldest first.
type MovesReply struct {
	Moves []Move `json:"moves"`
}

// StateHeld is the state of a move that waits for an operator: it does not end by itself.
const StateHeld = "held"

// Move is one that waits, is under way or has ended.
type Move struct {
	ID    string `json:"id"`
	VM    string `json:"vm"`
	From  string `json:"from"`
	To    string `json:"to"`
	State string `json:"state"`
	// Step counts from 1; Doing says in words what it is.
	Step  int    `json:"step"`
	Steps int    `json:"steps"`
	Doing string `json:"doing,omitempty"`

	Sent      uint64  `json:"sent"` // bytes of the transfer
	Remaining uint64  `json:"remaining"`
	Total     uint64  `json:"total"`
	DirtyRate float64 `json:"dirty_rate"` // bytes a second
	Bandwidth float64 `json:"bandwidth"`  // bytes a second
	// Gap is for how long the guest stood still, known after the switch.
	Gap time.Duration `json:"gap,omitempty"`

	Begins   time.Time `json:"begins,omitzero"` // of one that waits, if that is known
	Began    time.Time `json:"began,omitzero"`
	Ends     time.Time `json:"ends,omitzero"` // expected; zero when unknown
	Ended    time.Time `json:"ended,omitzero"`
	Template string    `json:"template,omitempty"`
	Problem  string    `json:"problem,omitempty"`
	// Mode is how memory is sent, Why the decisions taken on the way.
	Mode string   `json:"mode,omitempty"`
	Why  []string `json:"why,omitempty"`
}

// IDRequest names a move.
type IDRequest struct {
	ID string `json:"id"`
}

// Waits says whether it may wait for a slot.
func (r MoveRequest) Waits() bool {
	return r.When == WhenBest || len(r.Windows) > 0 || !r.NotBefore.IsZero()
}
