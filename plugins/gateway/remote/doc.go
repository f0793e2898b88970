// Package remote is a volume's side of the object store: taking the volume over, committing
// batches, and fetching cells.
//
// # Protocol
//
// Takeover reads the head and replaces it, by compare-and-swap, with one of a higher epoch that
// names this session; from then on an older gateway's commits fail. Commit puts the batch's
// data and its delta, both named by content, and then moves the head, again by compare-and-swap.
// So the store always holds a prefix of the volume's history (INVARIANTS S8, S9). After an
// answer that never came the head is read again: our own session and sequence number mean
// success, a higher epoch means that somebody fenced us.
//
// # Lifetime
//
// New, Takeover until it succeeds, Load, then Commit and Cell. A Remote that is fenced stays so.
//
// # Concurrency
//
// One goroutine calls Takeover, Load and Commit; any number call Cell and the rest. All calls of the
// store go through one circuit breaker: while the store is down one call at a time tries it, with
// growing pauses, and the others wait.
package remote
