// Package upload turns a run of the write log into what the object store gets: overwritten blocks
// are dropped, byte ranges merged into their blocks, zeroes made into ranges, and the blocks of
// each cell packed into one frame, compressed, sealed and hashed (invariants S8, S10).
//
// A Batch is pure: groups go in, in log order, and a remote.Batch comes out. It is used by one goroutine, for
// one batch; Free gives its memory to the next.
//
// A Schedule says how fast uploads may go at what time of day, as a pure function of instants; a Limiter holds
// uploads to it and may be used from many goroutines.
//
// # Cost
//
// Nearly all of an upload's CPU time is compression. Of 25 MiB of programs, libraries and text, cut into cells, zstd at
// its fastest leaves 36 % for 4.1 ms of CPU a MiB; its default level 33 % for 5.8 to 6.1 ms; without entropy
// coding it leaves 41 % for 3.5 ms. What does not compress costs 1.0 ms a MiB with its hash, sealing adds
// 0.3 to 0.8 ms (CPU time, measured while other work kept both cores busy; BenchmarkPack).
package upload
