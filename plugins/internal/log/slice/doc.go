// Package slice divides a disk among several logs. A label at the start of the disk names the
// slices; each is a log.Disk of its own.
//
// # On disk
//
//	label A | label B | slices, each at a multiple of 1 MiB
//
// A label is one block with a checksum and a generation; the newer valid one counts, and a change
// is one write to the other and a sync. A crash leaves the table before or after the change.
//
// # What slices share
//
//   - Syncs: those of all logs that come while one is under way become one fdatasync.
//   - Failure: a failed sync is the last one of every slice. The kernel may report a lost write
//     once, to whoever asks next, so that no other log could rely on its own syncs (invariant S4).
//   - Turns: one write at a time is given to the disk, a long one in pieces while others wait; those
//     that wait go by weighted fair queueing, so that a busy volume has what its share says while
//     others want some too, and everything while they do not. Reads take no turns.
//
// # Lifetime and concurrency
//
// Format once, Open at every start; all methods may be called from many goroutines. A Disk is valid
// until its slice is removed.
//
// # Source
//
// Start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996.
package slice
