// Package libvirt is a hypervisor.Port over libvirt's daemons: the manager drives the phases of a migration itself, at both
// daemons, and decides between any two of them (invariant M3).
//
// # A move
//
//	Begin     Begin3 at the source, on a connection of the move's own; nobody else can change the VM from then on
//	Prepare   Prepare3 at the target, on a connection of its own: a stopped QEMU that listens
//	Perform   Perform3 at the source; it returns when the source has stopped, flushed, and sent everything: that is Switchover
//	Complete  Finish3 at the target, paused: an ordinary stopped domain there; then it is looked at
//	Finish    resume at the target: its first instruction
//	Confirm   Confirm3 at the source: the domain ends, and is forgotten if it was defined
//
// Until Finish the way back is Finish3 and Confirm3, both cancelled. For a post-copy the source is suspended first, which
// stops and flushes it and can be taken back; the order to fetch the rest comes after the commit.
//
// # Lifetime and concurrency
//
// A [Port] is one connection to one daemon, and a connection for each side of each move; it ends with the first and is not
// mended: whoever holds it dials anew. Methods may be called from many goroutines. What the two sides of a move know of each
// other is in [Moves], which all ports of a manager share.
//
// # Crashes
//
// The daemon itself undoes what a manager leaves behind whose connection is gone: it drops the job of the source, and
// destroys a destination that is not finished. What is left is told by the mark that Begin puts into the VM's metadata, and
// that moves with it: the move, the manager's epoch, and both hosts. Finish and Confirm need no more.
//
// # Guarantees and limits
//
// A VM is never resumed where its mark and state do not say that it may be. An older manager is refused with ErrFenced
// wherever the VM is; a host without the VM has nowhere to remember an epoch, so hosts do not fence (invariant M4), VMs do.
// Streams are TLS unless Options.Plain. Only domains under KVM or TCG on x86_64 can move, and what package domxml has no word
// for is refused. libvirt gives sizes of streams in MiB a second and rounds memory up to MiB.
package libvirt
