// Package remote is a volume's side of the object store: taking the volume over, committing
// batches, fetching cells, and keeping what is in the store compact and free of garbage.
//
// # Protocol
//
// Takeover reads the head and replaces it, by compare-and-swap, with one of a higher epoch that
// names this session; from then on an older gateway's commits fail. Commit puts the batch's
// data and its delta, both named by content, and then moves the head, again by compare-and-swap.
// So the store always holds a prefix of the volume's history (invariants S8, S9). After an
// answer that never came the head is read again: our own session, sequence number and root mean
// success, a higher epoch means that somebody fenced us.
//
// # Compaction
//
// Deltas are folded into leaves, cells that lie in many frames are gathered into one, and what still lives in
// objects that are mostly dead is moved out of them, frame by frame, out of several at once. Under constant load, when nobody
// finds time to tidy up, commits do the last alone, and only while there is more than twice as much garbage as data. Each step is a commit
// of its own, bounded in bytes: one may gather a part of a leaf only and leave the rest to the next. It changes no content.
// Readers of the old objects are not disturbed: those stay until nobody can be reading them any more.
//
// # Deletion
//
// Only the gateway that holds the epoch deletes, and only so (S11): an object that nothing refers to
// becomes a grave in a committed root; after a grace that is longer than any upload and any read, counted
// from when this session saw that commit with its own clock that nobody sets, the head is read once more; if it is
// still ours and the object still a grave, it is deleted. What an earlier epoch put and never
// committed cannot be committed any more and goes the same way; a new session looks for it, a few pages of a list at a time.
//
// # Memory
//
// Bounded for any size of volume, see package manifest; leaves are fetched on demand into a cache of
// 8 bytes for each chunk, 8 MiB at least and 64 MiB at most.
//
// # Lifetime
//
// New, Takeover until it succeeds, Load, then Commit and Cell. A Remote that is fenced stays so.
//
// # Concurrency
//
// One goroutine calls Takeover, Load, Commit, Tidy, Compact and Resize; any number call NewObject, Put, Cell, Mask
// and the rest. All calls of the store go through one circuit breaker: while the store is down, or refuses for
// what somebody can put right, one call at a time tries it, with growing pauses, and the others wait.
package remote
