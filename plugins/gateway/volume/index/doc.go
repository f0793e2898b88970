// Package index says where each 4 KiB block of a volume is.
//
// # Shape
//
// A radix tree of three levels: one word for a chunk of 4 MiB, a node of 64 words for the cells of
// 64 KiB in it, a node of 16 entries for the blocks of a cell. Only what is held locally has nodes; a missing
// one means that the store's manifest is to be asked. A word of the upper levels can also say
// that all below it is zeroes, so trimming a volume of any size costs no memory.
//
// Nodes live outside the Go heap, in memory mapped in pieces: the collector neither scans them
// nor lets the process grow to twice their size. A held block costs 8 bytes and its share of two nodes,
// 2.13 bytes per KiB where whole cells are held; the volume itself 8 bytes per 4 MiB.
//
// # Concurrency
//
// One goroutine at a time changes an index; the owner's lock sees to it. Get, Lookup, Snapshot, Blocks
// and Touch take no lock and may run at any time. A node that a reader may still stand on can be freed
// and used for another cell, so every free raises a counter, after the node has been unlinked
// and before it is touched: a lookup during which the counter stood still has seen only linked nodes,
// any other one is repeated.
//
// # Lifetime
//
// New, then any calls; the memory goes when the index is no longer reachable. Prepare takes all the memory that a
// change needs; changes themselves cannot fail.
package index
