// Package trial does real work on real goroutines, measures what it cost, and asks the simulator what it would have made of
// the same costs. If the two agree, what package sim says about the allocator holds for package pipeline as well.
//
// The work is that of an upload: blocks are read from a file, compressed, hashed and written through to the disk, by
// one pipeline; another one only reads and hashes. Both compete for the workers.
package trial
