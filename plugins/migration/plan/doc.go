// Package plan decides how a VM gets from one host to another and from one shape to another, or why it cannot.
//
// # Purpose
//
// Make takes what is known before a move – the VM's shape, what both hosts can hold, what the guest's agent reports, the
// type asked for and the goal – and returns either a Plan or every reason against it, before a byte is sent. The order of
// the steps is: capabilities, hooks, shrink, swap, move, grow (invariant M1). Compare holds the shape a destination was
// really started as against the one that crosses; Apply and Invert say what a step does to a shape and what takes it back.
//
// # Why a check of our own
//
// QEMU does not notice, or only after the source has said "completed", that a destination has other ceilings for vCPUs,
// slots or memory; a CPU with fewer flags lets the guest hang without a word; and under TCG releases before 9.0 corrupt
// memory that is a multiple of 256 KiB. What cannot be compared, because a host did not report it, is refused as well.
//
// # Guarantees
//
// Pure: no I/O, no clock, no randomness; the same Input gives the same Plan, and nothing passed in is changed. The steps
// of a Plan applied to Before give During at the move and After at the end, and the inverses of any prefix lead back to
// Before (TestStepsLeadThereAndBack). All refusals of one pass come together.
package plan
