// Package manifest holds the formats in which a volume is kept in an object store, and the map
// from blocks to the objects that hold them.
//
// # Objects
//
//	<volume>/head                          the one mutable object: epoch, sequence number, the manifests in force
//	<volume>/full/<epoch>/<seq>-<hash>     a whole manifest
//	<volume>/delta/<epoch>/<seq>-<hash>    what one batch changed
//	<volume>/data/<epoch>/<seq>-<hash>     the frames of one batch, one after the other
//
// Everything but the head is immutable and named by its content, so putting it twice is
// harmless. The head names the last full manifest and the deltas after it; a manifest
// carries the hash of every frame; so the head vouches for every byte below it.
//
// # Units
//
// A block is 4 KiB, a cell is 64 KiB (16 blocks), a chunk is 4 MiB (64 cells). A frame holds
// some blocks of one cell, compressed and hashed alone, so that a miss fetches no more than the
// cell it needs. A chunk has an owner and a Merkle root over its frames.
//
// # Guarantees
//
// Decoders take bytes from outside: they check every length and range, allocate no more than
// the input can justify, and return an error that wraps ErrInvalid. Formats carry a version and
// feature bits; what is not understood is refused.
//
// # Concurrency
//
// A Map is not safe for concurrent use; its owner locks. Everything else is plain data.
package manifest
