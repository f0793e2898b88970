// Package manifest holds the formats in which a volume is kept in an object store, and the map
// from blocks to the objects that hold them.
//
// # Objects
//
//	<volume>/head                        the one mutable object: epoch, sequence number, what is in force
//	<volume>/root/<epoch>/<seq>-<hash>   what the parts are, and which objects await deletion
//	<volume>/part/<epoch>/<seq>-<hash>   a run of leaf references, or of the table of objects
//	<volume>/leaf/<epoch>/<no>-<hash>    leaves, one after the other
//	<volume>/delta/<epoch>/<seq>-<hash>  what one batch changed since the root
//	<volume>/data/<epoch>/<no>-<hash>    frames, one after the other, and a directory of their cells
//
// Everything but the head is immutable and named by its content, so putting it twice is
// harmless. The head names a root and the deltas after it, a root its parts, a part its leaves, a leaf
// its frames, each by hash: the head vouches for every byte below it.
//
// # Units
//
// A block is 4 KiB, a cell is 64 KiB (16 blocks), a chunk is 4 MiB (64 cells), a leaf covers 64 MiB
// (16 chunks). A frame holds some blocks of one cell, compressed, sealed and hashed alone, so that
// a miss fetches no more than the cell it needs. A chunk has an owner and a Merkle root over
// its cells.
//
// # Memory
//
// A Map keeps what deltas have changed since the root, a reference of 64 bytes for each leaf
// (4 bytes for each chunk), 36 bytes for each object, and one bit for each chunk: whether the store
// holds anything of it. Leaves are fetched when a cell is looked up; the caller caches them. So
// the map of a full volume of 16 TiB in objects of 8 MiB takes 23 bytes for each chunk.
//
// # Guarantees
//
// Decoders take bytes from outside: they check every length and range, allocate no more than
// the input can justify, and return an error that wraps ErrInvalid. Formats carry a version and
// feature bits; what is not understood is refused.
//
// # Concurrency
//
// A Map is not safe for concurrent use but for MayHold; its owner locks. Everything else is plain data.
package manifest
