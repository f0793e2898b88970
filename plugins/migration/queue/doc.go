// Package queue decides which moves begin: of many that were ordered, in waves, with a budget of failures.
//
// # Purpose
//
// An order is a batch: one VM, or what a template selects. A batch begins its waves one after the other; a wave begins when
// the one before has ended and the pause has passed. When more moves have failed than the budget allows, or any of the
// first wave of a batch that has a canary, what has not begun is dropped: the rest of the fleet stays where it is.
//
// # Guarantees
//
// Among batches a higher priority goes first, then the older one; a batch whose wave waits does not hold up another. A move
// is handed out once. A Queue is data: kept after each change and read back by the next process, it goes on where it was.
// What was handed out and never arrived at the runner, because the process died in between, is handed out again after
// Reconcile.
//
// # Concurrency
//
// A Queue is stepped by its caller and has neither a clock nor a lock.
package queue
