package run

import (
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// Status of a move, for people. Bytes and rates are those of the transfer.
type Status struct {
	ID    string `json:"id"`
	VM    string `json:"vm"`
	From  string `json:"from"`
	To    string `json:"to"`
	Phase Phase  `json:"phase"`
	// Doing is what it does now, in words.
	Doing string `json:"doing,omitempty"`
	// Step of Steps, counted from 1.
	Step  int `json:"step,omitempty"`
	Steps int `json:"steps"`
	// Held waits for an operator: see Problem.
	Held bool `json:"held,omitempty"`
	// Committed cannot be undone any more.
	Committed bool    `json:"committed,omitempty"`
	Outcome   Outcome `json:"outcome,omitempty"`
	// Owed tells that the destination could not be discarded: the next move to that host does it.
	Owed bool `json:"owed,omitempty"`
	// Problem is why it is undone, held, or did not get all.
	Problem string `json:"problem,omitempty"`

	Mode        string        `json:"mode,omitempty"` // pre-copy, throttle, post-copy
	Transferred uint64        `json:"transferred,omitempty"`
	Remaining   uint64        `json:"remaining,omitempty"`
	Total       uint64        `json:"total,omitempty"`
	DirtyRate   float64       `json:"dirty_rate,omitempty"` // bytes a second
	Bandwidth   float64       `json:"bandwidth,omitempty"`
	Passes      int           `json:"passes,omitempty"`
	Throttle    int           `json:"throttle,omitempty"` // percent
	ETA         time.Duration `json:"eta,omitempty"`      // of the transfer
	// Predicted is what admission thought that the transfer would take, Took what it took: until the source stopped, or
	// after a post-copy until all memory had arrived.
	Predicted time.Duration `json:"predicted,omitempty"`
	Took      time.Duration `json:"took,omitempty"`
	// Gap is for how long neither side ran, as the manager saw it.
	Gap time.Duration `json:"gap,omitempty"`
	// Why are the decisions taken on the way.
	Why     []string  `json:"why,omitempty"`
	Planned time.Time `json:"planned"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Ends tells whether nothing more will happen by itself.
func (s Status) Ends() bool { return s.Outcome != "" || s.Held }

func (s *Status) measured(p hypervisor.Progress) {
	s.Transferred, s.Remaining, s.Total = p.Transferred, p.Remaining, max(p.Total, s.Total)
	s.DirtyRate, s.Bandwidth, s.Passes, s.Throttle = p.DirtyRate, p.Bandwidth, p.Passes, p.Throttle
}

// maxWhy bounds the decisions that are kept of a move.
const maxWhy = 64

func (s *Status) because(why string) {
	if len(s.Why) < maxWhy {
		s.Why = append(s.Why[:len(s.Why):len(s.Why)], why) // a copy handed out before stays as it is
	}
}
