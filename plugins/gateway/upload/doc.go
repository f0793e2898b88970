// Package upload turns a run of the write log into what the object store gets: overwritten blocks
// are dropped, byte ranges merged into their blocks, zeroes made into ranges, and the blocks of
// each cell packed into one frame, compressed and hashed (INVARIANTS S8, S10).
//
// It is pure: groups go in, in log order, and a remote.Batch comes out. A Batch is used
// by one goroutine, for one batch.
package upload
