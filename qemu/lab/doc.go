// Package lab has real guests for the tests, benches and soaks of the migration plugin.
//
// # Guests
//
// A lab guest is a Debian kernel with the agent as it is shipped and a load (package inside) that rewrites memory, writes
// a disk, and sends a heartbeat every 5 ms; it can verify every page and block it has written. One boots in 7 to 25 s
// under TCG, so each shape is booted once: its saved state lies in the user's cache folder, and a guest is restored from
// it in a third of a second. What distinguishes restored guests they fetch by TFTP from their network, after which their
// boot IDs differ, too.
//
// # Proofs
//
// [Runners] holds the event streams of all QEMUs of a VM against "never two runners" (invariant M2). Heartbeats are the
// second opinion ([Beats.Twins]) and the measure of the gap that the guest's peers see ([Beats.Gap]). A [Relay] stands in
// the way of a memory stream and cuts or stalls it at a byte.
//
// # RAM
//
// QEMU before 9.0 loses writes of a running TCG guest in pre-copy if its RAM is a multiple of 256 KiB
// (docs/explanation/migration.md): [RAM] is not, and TestMovedMemory would fail if that were not enough.
//
// # Lifetime
//
// Everything ends with the Lab's Close, and with this process. At most [Slots] labs run on a machine at once; others wait.
package lab
