// Package trial runs a schedule on a simulated clock and links: jobs begin when their slot does, hypervisors keep to limits as
// exactly as QEMU does and carry them out late, guests go on writing. It measures what the plan promised: the makespan against the
// best order that there is, the bytes of every second against the budget, and the time of a job of high priority against what it
// takes alone.
package trial
