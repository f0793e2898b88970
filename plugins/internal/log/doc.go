// Package log is a circular write log on a raw disk or a pre-written file. It is the durable store
// of a cached volume, dirty data and cache alike, and the write-ahead log under the page store.
//
// # On disk
//
// All areas start at multiples of 4096 bytes:
//
//	superblock A | superblock B | checkpoint A | checkpoint B | log (circular, whole segments)
//
// The log is a run of groups. A group is one header page and its payload: the header names the
// writer's epoch, the sequence number, the position, the highest sequence number known durable
// when it was written, the header checksum of the group before it, the owner's tail and mark, and
// the records with a CRC-32C of every block. Positions are logical: they count bytes since the
// disk was formatted and never come back. No group crosses a multiple of the segment's size, so
// that neither the log nor the window wraps inside a group.
//
// # The window
//
// Groups are built in the window, memory of a few segments in which position p has the place
// p modulo its size. Append copies a record there, and that is the acknowledgement: a process
// that is killed leaves the window to the next one, if core holds it (package ring), and Recover
// appends what had not reached the disk (invariant S5). The writer hands the window's memory to
// the disk as it is; young positions are read from it without I/O.
//
// # Lifetime
//
// Format once. Open, then Recover: it hands out the newest checkpoint's state and every group
// after it, makes a new epoch durable and drains the window. Then Append, Flush, SetMark and
// Checkpoint, with Run beside them, which writes ahead of flushes. SetMark moves the tail and so frees
// space; a checkpoint is needed only to keep replays short and to let the tail move on.
//
// # Guarantees
//
//   - After a power cut Recover yields a prefix of what was appended, never shorter than what was
//     flushed; after the death of the process, with a ring, all of it.
//   - A break that lies before something known durable is ErrMediaCorrupt; nothing is truncated
//     (S3). Payloads are read again by Recover only where nothing says that they were durable; an
//     owner compares what it reads with its own checksum, and Scrub compares everything.
//   - After one failed write or sync the log is poisoned and takes nothing more: a kernel may
//     report a lost write only once (S4).
//   - Space is reused only after a group that carries the tail is durable (S1), and the tail never
//     passes what a durable checkpoint replays from.
//   - Flush covers whatever anyone has appended; one is under way at a time, and all who come
//     meanwhile share the next (S6). One that comes at regular intervals is begun before it is asked for, by Run or,
//     with Record.Alone, by who appended the record that it will follow: it is then that goroutine's turn already.
//   - A checkpoint becomes valid only when everything that it may refer to is durable.
//   - A format with unknown incompatible feature bits is refused, not guessed at (X1).
//
// # Concurrency
//
// All methods may be called from many goroutines. Append, SetMark and Checkpoint mean something only in
// an order that the owner makes, by calling Append under the lock that guards its index. Reads take
// no lock: they copy, and ask then whether the place was still the same. The package does no I/O
// but through Disk and starts no goroutine; Run is one that the caller starts, and a flush is carried
// out by one of those that wait for it.
//
// # Source
//
// The prefix-consistent write log of LSVD (Hajkazemi et al., EuroSys 2022); what a failed
// fsync means: Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020; group
// commit with a leader: Gray and Reuter, Transaction Processing, 1993, ch. 9.
package log
