package supervise

import "fmt"

// State of a plugin.
type State int

// The states, as the package comment explains them.
const (
	Absent State = iota
	Verified
	Starting
	Ready
	Degraded
	Draining
	Stopped
	Failed
	Isolated
)

func (s State) String() string {
	names := [...]string{"absent", "verified", "starting", "ready", "degraded", "draining", "stopped", "failed", "isolated"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return names[s]
}

// Serving says whether a process answers in this state.
func (s State) Serving() bool { return s == Ready || s == Degraded }

// Kind of an input.
type Kind int

// What can happen to a plugin.
const (
	Enable    Kind = iota // it is to run
	Disable               // it is to stop
	Restart               // it is to run in a new process; forgives earlier failures
	Isolate               // the boot verdict forbids hardware
	Refuse                // the configuration is wrong: trying again is of no use before Enable or Restart
	Started               // the active process serves
	Exited                // the active process is gone, or never came
	Healthy               // a sign of life with good health
	Unwell                // a sign of life of a process that serves badly
	Broken                // the process says itself that it cannot go on
	Beat                  // a sign of life that says nothing of health
	Pet                   // the process pets its sd_notify watchdog, which arms it
	SpareUp               // the spare stands by
	SpareDown             // the spare is gone, or never came
	Tick                  // Deadline has come
)

// Input is one thing that happened.
type Input struct {
	Kind Kind
	// Why is for people: it becomes the Machine's Message.
	Why string
}

// Action is what the host must do.
type Action int

// The actions.
const (
	Spawn      Action = iota // start a process and then the feature in it; ends in Started or Exited
	Promote                  // start the feature in the spare; ends in Started or Exited
	SpawnSpare               // start a process and configure it; ends in SpareUp or SpareDown
	Stop                     // drain, stop and end the active process; ends in Exited
	Kill                     // end the active process now; ends in Exited
	KillSpare                // end the spare now; ends in SpareDown
)

func (a Action) String() string {
	names := [...]string{"spawn", "promote", "spawn-spare", "stop", "kill", "kill-spare"}
	if a < 0 || int(a) >= len(names) {
		return fmt.Sprintf("action(%d)", int(a))
	}
	return names[a]
}
