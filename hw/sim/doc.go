// Package sim is a device in a file or on a disk: a board with firmware slots that can be flashed,
// activated, read back and hashed, that survives power cuts as boards do, and that a test can tamper with
// while the box is off.
//
// Purpose. No device that QEMU offers lets its firmware be replaced. A development image takes a disk
// whose serial starts with "SIM-" for such a device instead of a disk; a release image does not. The
// whole way of a firmware update – intent, counter, flash, power cut, read-back at the next boot – runs
// on it in a booted box.
//
// What a board does. An image says in its first line for which model it is and which version; another
// model's is refused. With two or more slots a new image goes where the device does not run from; with
// one it is written over what runs, and a cut in between leaves neither. Activation is at once, or at
// the next power-on, for which the device takes a start under another boot id. Strength is what a
// device lets a host check: a digest, a version, nothing. A device that lies reads back as what was
// committed, whatever it holds.
//
// Faults. Fault stops or fails an operation at one of Points, so that a test can cut the power there.
//
// Layout (bytes): two copies of the state at 0 and 4096, the newer valid one counts: magic "RATSIM01",
// length and CRC-32C (little endian, 4 bytes each), JSON. Slot n starts at 64 KiB + n × the slot size.
//
// Guarantees. Every change of state is synced; a torn one leaves the one before it. Nothing a medium
// holds makes Open or ReadBack panic.
//
// Concurrency. A Device belongs to one goroutine.
package sim
