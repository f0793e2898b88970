// Package schedule decides when VMs are moved, and whether a move may start at all.
//
// # Purpose
//
// [Admit] predicts a move by the memory to send, the rate at which the guest writes and what the links have free, and refuses one
// that would not end, before a byte is sent. [Engine] books slots for many moves on the links they share: by priority, inside
// maintenance windows, where the forecast says the transfer is short and the destination has room, and not later than it has to be.
// Every decision carries its reasons in words.
//
// # Lifetime and concurrency
//
// A pure engine: the time, the lanes (links, and processors of hosts, with what is free on them), the rooms
// (what is free of hosts' memory) and the jobs come in as parameters, decisions come out. Plan
// is called whenever something has changed and at each tick of the forecast (receding horizon): slots that have not
// begun are decided anew by what is known now. Package live does the I/O, package budget keeps running moves to their links' budgets.
//
// # Guarantees
//
//   - What is booked on a link at any time, with what the forecast expects of others, is at most its budget when booked.
//   - A job of a higher priority is placed as if those of lower ones were not there.
//   - A slot lies within a window of the job, if it has any, and ends before its end by the prediction that is exceeded one
//     time in ten.
//   - A slot is given only if its destination has room for the VM from its start to its end, beside those who are promised theirs. A
//     host whose memory nobody has told of has room.
//   - The same inputs give the same plan.
//
// # Sources
//
// Pre-copy: Clark et al., "Live Migration of Virtual Machines" (NSDI 2005). Longest first: Graham, "Bounds on Multiprocessing Timing
// Anomalies" (1969), followed by a local search. Research and figures: docs/explanation/migration-schedule.md.
package schedule
