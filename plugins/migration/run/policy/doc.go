// Package policy steers a transfer of memory by what the move may cost: goals, not knobs.
//
// A transfer begins as pre-copy, with the gap that the goal allows, or, when admission has found that it would not end, as
// what the goal allows instead. [Controller.Observe] is then asked with each measurement whether it still leads to an end in
// time. When it does not, the guest is left to post-copy if the goal allows that (which is bounded, uses all of the link for the
// rest, and can lose the VM), else held back a little more from pass to pass if it allows that, else the transfer is given up with the reason,
// before anything was stopped.
//
// That a transfer does not converge is said only of what was seen: after a whole pass in which the guest wrote at least as
// fast as was sent, and again after as many as [Patience] passes in which what is left did not become less. That is
// because the first passes of a guest that writes to a small part of its memory look hopeless and are not.
//
// Pure: no clock and no I/O. A Controller belongs to one goroutine.
package policy
