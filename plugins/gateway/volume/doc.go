// Package volume is a cached volume: a block device whose truth is a local log first and an object
// store in the end.
//
// # How it works
//
// The whole local disk, or its slice, is one circular log (plugins/internal/log), which is write log
// and cache at once. The index says for each 4 KiB block where in the log it is; a block that it does
// not know is in the store or, if the store's manifest has nothing there, zero.
//
// A write is copied to the end of the log, which is memory that outlives the process, enters
// the index, and is acknowledged; all three under one short lock, so that the log's order, the
// index's and the clients' are the same. FLUSH makes the log durable up to there, for everybody at once.
// The uploader cuts the durable log into batches and publishes them in order: the store always
// holds a prefix. A read takes each block from memory, the page cache, the disk, or the store, from
// which the 64 KiB around it are fetched and appended to the log as a clean copy.
//
// Space is freed at the log's tail. What lies there is in the store by then, because the tail never passes
// the last confirmed head; the cleaner drops it from the index, or appends it again if it has been read.
// A part of a block is merged with the rest where that is local or zero; over a block of the
// store it is logged as it is and merged when the block is next uploaded or read, so that a small
// write never waits for the store (invariant S12).
//
// # States
//
//	opening → attached             the head is ours, batches flow
//	        → detached             the store does not answer; writes, hits and dirty data are served
//	        → fenced | failed      for good: another gateway owns the volume, or the disk lies
//
// # Guarantees
//
//   - What was acknowledged survives the end of the process if the window does (S5), and what
//     a Flush on any connection has covered survives a crash of the kernel and of power (S4, S6).
//   - Nothing leaves the log before a head that covers it is confirmed, and space is reused only after that and the
//     new tail are durable (S1, S2).
//   - The store is never ahead of the durable log (S8).
//   - What was fetched is kept only if it is still what the store has, at that point of the log:
//     a replay takes every record as it stands.
//   - Every block read from the disk is held to 24 bits of its CRC-32C, and every patch to all of it; a copy that
//     does not match, or cannot be read, is fetched again; dirty data like that is an error, never served.
//   - When the log is full, writers wait; they can be cancelled, and nothing is lost.
//   - A miss never blocks hits, and misses of one cell share one fetch.
//
// # Recovery
//
// A checkpoint holds the index; the cleaner makes one whenever a replay would get long. It is dumped
// while writes go on: the log is flushed to its end before the checkpoint counts, and what the dump has
// too much of is what the replay brings anyway. It also says of which chunks the store has nothing (blanks), so that
// a start without the store reads what was never written as zeroes and does not wait.
//
// # Concurrency
//
// All exported methods may be called from many goroutines. Reads take no lock: they look up the
// entry, copy, and look it up again; a place that was reused meanwhile is noticed by the log, by the
// entry and by the checksum. Changes of log and index happen under Volume.mu, which is never
// held over I/O. Three goroutines work in the background: the log's writer, the cleaner and the uploader, and
// one for each fetch.
package volume
