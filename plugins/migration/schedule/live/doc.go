// Package live runs a schedule in real time: it watches the configured links and the processors and memory of hosts, keeps their
// history, plans the moves that wait, says when each may begin, and keeps those under way to the links' budgets.
//
// # Lifetime
//
// New starts one goroutine for each load that is watched and one for the schedule; Close ends them.
//
// # Concurrency
//
// Methods may be called by any goroutine. Callbacks of Options are called without locks, from goroutines of Live, and may call it back.
//
// # Guarantees
//
//   - A history survives a restart up to the last half hour: it is kept under "schedule/history/NAME", where NAME is a link,
//     HOST/cpu or HOST/memory.
//   - A transfer that asks by Grant has its part of the budgets before its first byte, and nobody is told to be faster before who is to
//     be slower has had the time to.
//   - Jobs are not kept: they belong to the caller, who submits them again.
//   - A move without a slot is planned again with each load that is read, and otherwise each minute.
//   - A link whose load cannot be read has no forecast after a while, and moves over it start at once, within its budget.
package live
