// Package log is a circular write log on a raw disk or a pre-written file, with index
// checkpoints beside it. It is the durable store of a cached volume's dirty data, and the
// write-ahead log under the page store.
//
// # On disk
//
// All areas start at multiples of 4096 bytes:
//
//	superblock A | superblock B | checkpoint A | checkpoint B | log (circular) | data (the owner's)
//
// The log is a run of groups. A group is one header page and its payload: the header names the
// writer's epoch, the sequence number, the position, the highest sequence number known durable
// when it was written, the header checksum of the group before it, and up to 124 records of
// 32 bytes; every record carries the CRC-32C of its payload. Positions are logical: they count
// bytes since the disk was formatted and never come back, so a position that is not before
// the tail still holds what it held.
//
// # Lifetime
//
// Format once. Open reads superblock and checkpoint, Replay hands out every group after the
// checkpoint and then makes a new epoch durable; only then can groups be added, through a
// Committer that many goroutines share. Checkpoint moves the tail and so frees space.
//
// # Guarantees
//
//   - Replay yields a prefix of what was committed, never shorter than what was acknowledged:
//     it stops at the first group that does not continue the chain (INVARIANTS S3).
//   - A break that lies before something known durable is ErrMediaCorrupt; nothing is truncated.
//   - After one failed write or sync the log is poisoned and takes nothing more: a kernel may
//     report a lost write only once (S4).
//   - Space is reused only after a checkpoint that no longer refers to it is durable (S1).
//   - A format with unknown incompatible feature bits is refused, not guessed at (X1).
//
// # Concurrency
//
// Log has one writer, the Committer's goroutine; Checkpoint, ReadAt, Scan and the counters may
// be used from others. The package does no I/O but through Disk and starts no goroutine
// but Committer.Run, which the caller starts.
//
// # Source
//
// The prefix-consistent write log of LSVD (Hajkazemi et al., EuroSys 2022); what a failed
// fsync means: Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020.
package log
