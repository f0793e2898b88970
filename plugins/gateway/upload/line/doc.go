// Package line runs the upload of a volume as a pipeline on the gateway's scheduler (core/pipeline), which shares workers
// and memory among the uploads and read-aheads of all volumes:
//
//	cut      waits until a batch is due and collects it from the log, dropping what is overwritten in it
//	merge    completes blocks of which only byte ranges were written, from the store
//	pack     compresses, seals and hashes frames: the only stage that takes a worker
//	put      sends the batch's object, several at once, at the pace that the volume's schedule allows
//	commit   manifest delta, then the head by compare-and-swap, then the volume is told
//
// # Guarantees
//
// Batches are committed one at a time and in the order in which they were cut, whatever the stages between do (invariant S8,
// S9). What is to be done in that order without a batch, a resize of the store or some housekeeping, goes through as a cut of its
// own. Nothing is confirmed to the volume before the head that covers it is committed (S2). A merge that needs what an
// earlier batch holds waits for that one's commit.
//
// # Lifetime and errors
//
// Run returns when its context ends or at the first error, which is for good: trying again is up to the Store. What was
// cut and not committed is forgotten; the volume's confirmed cursor has not moved past it.
package line
