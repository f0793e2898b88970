// Package model is what the rooms of the migration plugin talk about: the shape a VM was started with, what a host can
// hold, the type a VM shall have, and what a move may cost.
//
// # Purpose
//
// A Shape is the boot-state record of a VM: everything a second hypervisor must be told to start the same board. Both
// sides of a move are held against it before a byte is sent, because QEMU finds out too late or not at all
// (a destination with more memory slots is noticed after the source says "completed"; a narrower CPU never).
//
// # Guarantees
//
// Values only: no I/O, no clocks, no goroutines. A Shape that was read back from its JSON is equal to the one written;
// Version says which fields it may have (invariant X1).
package model
