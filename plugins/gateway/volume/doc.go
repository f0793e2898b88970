// Package volume is a cached volume: a block device whose truth is a local write log first and
// an object store in the end.
//
// # How it works
//
// A write is acknowledged when its group is durable in the local log. The uploader cuts the log into
// batches, in order, and publishes them; the store always holds a prefix. A read takes each 4 KiB
// block from wherever the index says it is: nowhere (zeroes), the log, a slot of the read cache, or
// the store, from which the block's 64 KiB cell is then fetched and cached. Byte ranges smaller
// than a block lie as patches over their block until an upload has merged them; they never
// wait for the store (INVARIANTS S12).
//
// # States
//
//	opening → attached             the head is ours, batches flow
//	        → detached             the store does not answer; writes, hits and dirty data are served
//	        → fenced | failed      for good: another gateway owns the volume, or the disk lies
//
// # Guarantees
//
//   - What was acknowledged survives a crash of process, kernel and power (S4, S5, S6).
//   - Nothing leaves the log before a head that covers it is confirmed, and that fact and the
//     block's new place are durable in a checkpoint (S1, S2).
//   - When the log is full, writers wait; they can be cancelled, and nothing is lost.
//   - A miss never blocks hits, and misses of one cell share one fetch.
//
// # Concurrency
//
// All exported methods may be called from many goroutines. Reads take no lock on the way to data:
// they look up the index, read, and check afterwards that the place still held the data
// (log.Holds, the slot's descriptor, the cell's generation), else they look again. Inside, three
// goroutines change the index: the log's committer publishes, the keeper frees log and cache, the
// uploader confirms.
package volume
