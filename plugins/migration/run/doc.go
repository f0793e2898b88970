// Package run carries out plans: it moves VMs, and leads each move to one of two ends over any failure, its own crash
// included.
//
// # The two ends
//
// Until the record [journal.Committed] is on the disk, a move that fails is undone: the VM runs at the source, in the shape
// it had. From then on it only goes forward: the VM runs at the target. The destination gets its first instruction after
// that record and the source none (invariant M1), so there is never more than one runner. The one way back from there is
// a target that says, to the first order to let the VM run, that it has none: the destination died untold. What can be neither undone
// nor finished for now, because a host does not answer, is tried for [Policy.Patience]; then the move is held for an
// operator, who can Retry it, or Accept a VM that runs at the target and whose agent does not answer. When the disk fails
// such that nobody knows whether Committed is on it, the move is held too, and this manager takes no more orders for it: the
// next one goes by what it finds.
//
// # A move
//
//	planned → admitted → pre-steps → prepared → transfer → switchover → commit → verify → end → post-steps → done
//	   └───────────────────────────┬────────────────────────────────────┘
//	                             undo → undone
//
// Each phase is journalled before it is entered; what it did is therefore known after a crash at least as far as it may
// have been done. Everything in it may be done again. A manager that starts undoes what is before commit: a transfer that
// nobody watches would stop the guest at the switch and leave it there.
//
// Pre-steps come before the destination is prepared, since it is started as what the VM has become by then.
//
// The order of an undo is: volumes back, then the transfer cancelled, the destination discarded, the source let run, the
// steps taken back from the last to the first. If the source has died after the destination had everything, the
// destination is the only copy: the move goes on instead, if the source's host saw that it stood still until then. A
// hypervisor that has not heard the destination's last word lets it run on by itself. Where the destination may still be
// there, the journal says that the source may run before it is let run, and once its transfer is cancelled: from that
// record on what the destination has is of the past and never runs. A source that dies then leaves the move held until
// the VM was started there again, or the copy at the target ended. If the record cannot be written, a destination that
// has everything is discarded first.
//
// # Post-copy
//
// The source stops with memory still to be sent; volumes are handed over and the commit is journalled then. A link that
// is cut from there on can lose the VM. It is done only where the goal allows it.
//
// # Managers
//
// Each [Open] raises the epoch, under which hosts take orders; a host that has heard a higher one answers
// hypervisor.ErrFenced, and this manager gives no more orders for that move.
//
// # Concurrency and lifetime
//
// A move under way is one goroutine; at most [Options.Moves] are. All methods may be called from many goroutines. Close
// stops giving orders and undoes nothing.
package run
