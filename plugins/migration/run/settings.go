package run

import (
	"cmp"
	"time"
)

// Policy is how long the Runner waits for what. The zero value works.
type Policy struct {
	// Call bounds one order to a host; 0 is 10 s.
	Call time.Duration
	// Prepare bounds the start of the destination; 0 is a minute.
	Prepare time.Duration
	// Transfer bounds a transfer whose goal has no deadline; 0 is 24 h.
	Transfer time.Duration
	// Switch bounds the time in which the source stands still before the commit; 0 is 10 s.
	Switch time.Duration
	// Agent is how long a guest's agent may take to answer; 0 is 5 s.
	Agent time.Duration
	// Verify is how long a VM may take at the target until its agent answers; 0 is 30 s.
	Verify time.Duration
	// Patience is how long is tried what must be done; 0 is 5 min.
	Patience time.Duration
	// Stall is for how long a transfer may stand still; 0 is 30 s.
	Stall time.Duration
	// Watch is the time between two looks at a transfer; 0 is 100 ms.
	Watch time.Duration
}

func (p Policy) filled() Policy {
	return Policy{
		Call:     cmp.Or(p.Call, 10*time.Second),
		Prepare:  cmp.Or(p.Prepare, time.Minute),
		Transfer: cmp.Or(p.Transfer, 24*time.Hour),
		Switch:   cmp.Or(p.Switch, 10*time.Second),
		Agent:    cmp.Or(p.Agent, 5*time.Second),
		Verify:   cmp.Or(p.Verify, 30*time.Second),
		Patience: cmp.Or(p.Patience, 5*time.Minute),
		Stall:    cmp.Or(p.Stall, 30*time.Second),
		Watch:    cmp.Or(p.Watch, 100*time.Millisecond),
	}
}

// mutant is a deliberate break of one invariant. Tests prove with it that they would notice; nothing outside of this
// package can set it.
type mutant uint8

const (
	mutantNone             mutant = iota
	mutantCommitLate              // M1: the destination runs before the commit is on the disk
	mutantResumeUnverified        // M1: a move that cannot be verified lets the source run again
	mutantKeepVolumes             // M1: an undo lets the source run without its volumes
	mutantResumeFirst             // M1: an undo lets the source run before its volumes are back
	mutantDeafToFence             // M4: orders are given on although a newer manager has taken over
)
