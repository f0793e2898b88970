// Package budget keeps transfers that run at the same time to the budgets of the links they share.
//
// # Purpose
//
// The bytes of a move go from one hypervisor to another, not through the manager; what the manager has is the limit of each
// transfer. A [Controller] turns budgets into such limits several times a second: strict priority with a small least share for
// the others, equal shares within a priority, and what one cannot use goes to the rest. It counts what has really been sent
// against token buckets (core/pipeline/share) and takes back what was too much.
//
// # Lifetime and concurrency
//
// Pure: the time, the links, and what each transfer has sent come in with Step, limits come out. One goroutine calls it.
//
// # Guarantees
//
//   - The limits in force on a link, those not yet carried out among them, never sum up to more than its budget: who is lowered is
//     lowered first, who is raised gets it once that has been carried out.
//   - So, for hypervisors that keep to their limits, no second carries more than the budget; one that does not is limited
//     below its share until its debt is paid.
//   - Each transfer keeps a least share, so that none times out behind another.
package budget
