// Package hypervisortest holds what adapters of hypervisor.Port are tested with, and what those who use a Port test with.
//
// # Purpose
//
//   - Suite is the conformance suite: what every Port promises, run over each of them.
//   - World is hosts in memory, for tests of what drives a move: every call can fail before or after its effect, a VM or a
//     host can die, the manager can crash. It keeps the history of each guest, so that a guest which ran twice from one
//     state is found even when both were never seen running at the same moment (invariants M1, M2).
//   - StartQEMU is a real QEMU with a monitor and nothing to run.
//
// # Concurrency
//
// A World and its Ports may be used from many goroutines. Nothing in it sleeps: what waits, waits for a change.
package hypervisortest
