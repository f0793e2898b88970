// Package queue decides which of the moves that were ordered begin now.
//
// # Purpose
//
// An order is a batch: one VM, or what a template selects, in the waves and with the budget of failures of its
// template.Rollout. The queue puts batches beside each other, under one limit of moves under way.
//
// # Guarantees
//
// Among batches a higher priority goes first, then the older one; a batch whose wave waits does not hold up another. A VM is
// moved by one at a time. A move is handed out once. A Queue is data: kept after each change and read back by the next
// process, it goes on where it was. What was handed out and never arrived at the runner, because the process died in
// between, is handed out again after Reconcile.
//
// # Concurrency
//
// A Queue is stepped by its caller and has neither a clock nor a lock.
package queue
