// Package template moves many VMs by one description: which ones, to what, where, how many at a time, and how many may
// fail.
//
// # Purpose
//
// Decode reads a Template strictly. Expand applies it to what the manager knows and returns waves of plans, with a reason
// for every VM that cannot be moved; FromAgents makes a Template out of what guests report; a Rollout says, from what has
// become of the moves so far, what to start next. Render writes a Template as the YAML document that operators keep.
// Reading YAML, with lines and columns, is in package document: it needs a parser that this one does without.
//
// # Hooks
//
// A hook is a name. The script of that name is in a directory of the guest, where only its administrator can put it, and
// the guest's agent runs it. Commands on the manager or its hosts would let whoever may write a template run what he likes
// there; web hooks would make the appliance call addresses that a template names. Both were left out.
//
// # Guarantees
//
// Pure: no I/O, no clock, no randomness. The same inventory gives the same waves, in the order of the VMs' names. A VM
// that is where a template may put it, and what the template makes of it, is left alone: what was begun can be applied
// again. Room that VMs leave behind is not counted on, since they may yet come back.
package template
