// Package vmhost is the agent on a hypervisor host with bare QEMU: the applet `ratchet vmhost`.
//
// # Purpose
//
// It starts and ends QEMUs from shapes, keeps a record of each, and lets the manager through to their monitors and
// channels. What a move is made of, and in which order, the manager decides (package hypervisor/qmp); the agent makes
// sure that only the newest manager does, and that nothing but VMs is done to the host.
//
// # Lifetime
//
// QEMUs do not end with the agent. Each holds a lock on its PID file for as long as it lives, by which the next agent finds
// it again; its monitor is a socket in the VM's directory:
//
//	DIR/vms/NAME/record.json   shape, and the move whose destination it is; synced, renamed into place, with a version
//	DIR/vms/NAME/pid           QEMU's, locked by it
//	DIR/vms/NAME/*.sock        monitor and channels
//	DIR/vms/NAME/*.log         what QEMU and consoles said
//	DIR/epoch.json             the highest manager epoch
//	DIR/tls/                   the host's certificate in the layout that QEMU reads
//	DIR/control.sock           the operator's way in
//
// # Concurrency
//
// A Host may be used from many goroutines. Each VM has one goroutine that follows its monitor; changes of one VM are
// made one after the other.
//
// # Streams
//
// Memory and disks go from QEMU to QEMU, over TLS of their own; they do not pass through the agent, which may end
// meanwhile. But QEMU waits for a peer with its big lock held in places: the guest stands still then, and no order is
// heard. So the agent opens the stream of an outgoing migration, and hands it over so that the handshake waits in nobody's
// way; it gives reads of arriving connections a limit; and it ends (shutdown(2), on descriptors taken by pidfd_getfd(2)
// where they are QEMU's) a handshake that takes 5 s, a stream whose QEMU does not hear within a second that the transfer
// is cancelled, and mirrors cancelled by force. A post-copy's stream it never ends. What an agent has not begun itself, since it was
// started later, it does not end.
//
// # Guarantees
//
// A request under an epoch lower than one seen before does nothing (invariant M4), and the epoch is on the disk before
// the request that raised it does anything. A destination is ended only by the move it belongs to, and no longer once it
// was settled: a late "discard" cannot reach a VM that runs (M1). A QEMU that lives is never told as absent, also one
// that does not answer or whose record is of a newer version: it would be started once more, here or elsewhere. The
// agent ends no process but QEMUs that hold the lock of a VM's PID file, and addresses them by pidfd.
package vmhost
