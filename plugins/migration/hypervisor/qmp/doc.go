// Package qmp is the hypervisor port for bare QEMU.
//
// # Purpose
//
// Client is a thin client of the QEMU Machine Protocol: greeting, capabilities, commands with ids, events. No library for
// it can be had here, and what is needed of the protocol is small.
//
// Host follows one VM behind one monitor. Port moves VMs between hosts that have an agent (package vmhost): it knows in
// which order QEMU is told what, the agent only carries it out. A move by Port is
//
//	Begin       the shape to be started is held against the one the source has
//	Prepare     the destination is started stopped; capabilities, credentials and listener are set
//	Perform     the same at the source; local disks are mirrored into the destination's exports; memory follows
//	Switchover  QEMU's pre-switchover: the guest stands still, disks are flushed, mirrors end
//	Complete    migrate-continue; the source has completed, and the destination is seen to be paused
//	Finish      the host keeps the VM, whatever discards destinations from then on; cont
//	Confirm     the source's QEMU ends
//
// Post-copy has the same pause before its switch. Its rest may go over a second connection when the first is cut.
//
// # Lifetime and concurrency
//
// Dial returns a Client whose reader runs until the connection ends or Close. Do may be called
// from many goroutines; replies are matched by id, so a command whose caller gave up does not
// disturb the next.
//
// # Guarantees
//
// Lines are bounded (MaxLine), and so are the events that wait to be received: a receiver that
// falls behind loses the connection and starts over with a fresh list, instead of believing an
// old state. A monitor serves one client at a time: QEMU lets a second one connect and says
// nothing, so a missing greeting within the time of ctx is reported as that.
//
// # Traps of QEMU 7.2
//
// query-migrate may say completed before its figures are there; cont before a destination is complete is lost; cont of a
// source after migration is not refused; a source that waits before the switch does not tell of a destination that has
// died; capabilities stay in a QEMU that was a destination; the main loop of a post-copy's destination may wait for a page
// itself, so that only out-of-band commands reach it; a main loop that does a handshake, opens a mirror or sends the rest
// waits for the peer with its guest and its monitor (package vmhost ends that). Port sees to these, Client adds no meaning of
// its own.
// Under TCG memory that is a multiple of 256 KiB arrives damaged if its guest writes meanwhile, and unplugging a vCPU
// crashes QEMU later.
//
// # Source
//
// QEMU docs/interop/qmp-spec.txt and the reference of its QAPI schema.
package qmp
