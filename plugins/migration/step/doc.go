// Package step carries out the steps of a plan, all but the move itself, on a VM where it is.
//
// A step is a change from one shape to another (package plan). [Do] leads the VM there from wherever it is between
// the two, so it may be called again after a failure or a crash of the manager; the way back is Do of plan.Invert. [Probe]
// tells how far a VM is, from its shape alone. What only the guest sees (a processor online, an address on another card)
// is asked for each time: the agent's orders name states, too.
//
// A device is swapped make-before-break: the new one is there and works before the old one goes. Memory is taken away by
// the guest's leave only, so shrinking is best effort: what it does not give within the time is an error, and the way back
// gives it all it had.
//
// Every step ends within [Timeout]. One file a kind; nothing is kept between calls.
package step
