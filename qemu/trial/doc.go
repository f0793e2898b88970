// Package trial moves real guests between real hosts with the migration plugin's own runner, and lets faults meet the
// moves. It is what tests, soaks and benches of moves have in common.
//
// A [Rig] is two hosts of package lab, whose agents and QEMUs are those of the product, a guest that writes memory and
// disk and sends heartbeats, and a real gateway that serves the disk. A fault may kill either QEMU at a call of the
// manager, cut or stall the memory stream at a byte, crash the manager at a write of its journal, or lose a call or its
// answer.
//
// [Links] is the whole plugin instead of a runner alone: three guests that templates and orders move over two links with budgets. A
// [Meter] reads what is sent from the sources' own answers.
//
// After each move the guest is asked for every page and block that it has written, and nobody may have run twice: that is
// proved from the events of both QEMUs and from the gateway's log of writes by epoch (invariant M2), and seen in the
// heartbeats.
package trial
