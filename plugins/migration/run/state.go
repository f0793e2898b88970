package run

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// Phase of a move.
type Phase string

// Phases, in their order. Undo is entered from any before Commit.
const (
	Planned    Phase = "planned"
	Admitted   Phase = "admitted"
	PreSteps   Phase = "pre-steps"
	Prepared   Phase = "prepared"
	Transfer   Phase = "transfer"
	Switchover Phase = "switchover"
	Commit     Phase = "commit"
	Verify     Phase = "verify"
	End        Phase = "end"
	PostSteps  Phase = "post-steps"
	Done       Phase = "done"
	Undo       Phase = "undo"
)

// Outcome of a move that has ended.
type Outcome string

// Outcomes. Partly is a VM that runs at the target and did not get all that was to come after the move; Lost is one that
// is on neither host, because it ended by itself.
const (
	Moved  Outcome = "moved"
	Partly Outcome = "moved, not all steps done"
	Undone Outcome = "undone"
	Lost   Outcome = "lost"
)

// state is what the journal tells of one move.
type state struct {
	plan      plan.Plan
	planned   time.Time
	phase     Phase
	boot      string   // boot ID of the guest, "" without an agent
	begun     int      // the last step that may have been done: an index, -1 for none
	done      int      // the last step that was done
	undone    int      // steps from this one on were taken back
	left      *leaving // of a post-copy: the source has been left
	preparing bool     // the hosts may know of the move
	committed bool
	undoing   string // why
	recalled  bool   // in the undo: the source may run, or may have
	ended     Outcome
	endedAt   time.Time
	text      string
}

// leaving is what is needed to go on with a post-copy after a crash.
type leaving struct {
	Address string            `json:"address"`
	Disks   map[string]string `json:"disks,omitempty"`
	Cookie  []byte            `json:"cookie,omitempty"`
	Plain   bool              `json:"plain,omitempty"`
}

func leavingFor(a hypervisor.Arrival, plain bool) json.RawMessage {
	text, _ := json.Marshal(leaving{Address: a.Address, Disks: a.Disks, Cookie: a.Cookie, Plain: plain}) // plain data: cannot fail
	return text
}

func (l leaving) arrival() hypervisor.Arrival {
	return hypervisor.Arrival{Address: l.Address, Disks: l.Disks, Cookie: l.Cookie}
}

// apply takes a record in. It is what both a running move and a restarted manager know a move by.
func (s *state) apply(r journal.Record) error {
	switch r.Kind {
	case journal.Planned:
		*s = state{phase: Planned, planned: r.At, begun: -1, done: -1}
		if err := json.Unmarshal(r.Plan, &s.plan); err != nil {
			return fmt.Errorf("read plan of move %s: %w", r.Move, err)
		}
		if err := s.plan.Validate(); err != nil {
			return err
		}
		s.undone = len(s.plan.Steps)
	case journal.Reached:
		s.phase = Phase(r.Phase)
		s.preparing = s.preparing || s.phase == Prepared
		if r.Boot != "" {
			s.boot = r.Boot
		}
	case journal.StepBegun:
		s.begun = r.Step
	case journal.StepDone:
		s.done = r.Step
	case journal.StepUndone:
		s.undone = r.Step
	case journal.Leaving:
		s.left = new(leaving)
		if err := json.Unmarshal(r.Plan, s.left); err != nil {
			return fmt.Errorf("read record %d of move %s: %w", r.Seq, r.Move, err)
		}
	case journal.Committed:
		s.committed, s.undoing, s.phase = true, "", Commit
	case journal.Undoing:
		// An older version wrote no phase, and nothing else before it let the source run.
		s.undoing, s.phase, s.committed, s.recalled = r.Text, Undo, false, r.Phase != string(Undo)
	case journal.Ended:
		s.ended, s.endedAt, s.text = Outcome(r.Outcome), r.At, r.Text
		if s.ended == Moved || s.ended == Partly {
			s.phase = Done
		}
	default:
		return fmt.Errorf("read record %d of move %s: its kind is %q: %w", r.Seq, r.Move, r.Kind, journal.ErrNewer)
	}
	return nil
}

// volumes are those that the move hands over.
func (s *state) volumes() []string {
	var names []string
	for _, d := range s.plan.During.Disks {
		if d.Source.Volume != nil {
			names = append(names, d.Source.Volume.Name)
		}
	}
	return names
}
