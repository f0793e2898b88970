package schedule

import "time"

// Job is a move that is to be made at a good time.
type Job struct {
	ID string `json:"id"`
	VM string `json:"vm"`
	// From and To are hosts: the job goes over every link that carries moves of either.
	From string `json:"from"`
	To   string `json:"to"`
	// Via are links to go over instead; of several ways the one that ends first is taken.
	Via [][]string `json:"via,omitempty"`

	// Memory is what the VM takes at its destination, in bytes; 0 is not known, and not looked at.
	Memory uint64 `json:"memory,omitempty"`
	Load   Load   `json:"load"`
	Policy Policy `json:"policy"`
	// Rate bounds the move's own bandwidth in bytes a second; 0 is not.
	Rate float64 `json:"rate,omitempty"`
	// Priority: a job is placed before all of lower ones, and has their bandwidth while it runs.
	Priority int `json:"priority,omitempty"`

	Submitted time.Time `json:"submitted"`
	// Earliest and Before bound the slot; zero is now, and MaxWait from Submitted for the start. A job that had to be done
	// before it was submitted starts at once.
	Earliest time.Time `json:"earliest,omitzero"`
	Before   time.Time `json:"before,omitzero"`
	// Windows are names of maintenance windows: the slot lies within one of them. None means any time.
	Windows []string `json:"windows,omitempty"`
}

// MaxWait is how long a start is put off at most for a better rate: as far as the forecast is judged by.
const MaxWait = 12 * time.Hour

// State of a job.
type State string

// States of a job.
const (
	Booked  State = "booked"
	Running State = "running"
	Denied  State = "denied" // by what is known now; asked again at each plan
)

// Decision is what is planned for a job.
type Decision struct {
	Job
	State State `json:"state"`
	// Start and End of the slot; of a running job when it began and is expected to end.
	Start time.Time `json:"start,omitzero"`
	End   time.Time `json:"end,omitzero"`
	Links []string  `json:"links,omitempty"`
	// Booked is the bandwidth in bytes a second that is kept for the job on its links.
	Booked  float64 `json:"booked,omitempty"`
	Verdict Verdict `json:"verdict"`
	// Why explains the choice of the slot.
	Why []string `json:"why"`
}
