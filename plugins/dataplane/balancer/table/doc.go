// Package table is the balancer's datapath as its control plane sees it: the maps of the program in bpf/lb,
// made or taken over from where they are pinned, and the program's place on an interface.
//
// What it guarantees, with user space alive, killed or being replaced:
//
//   - A flow that has an entry keeps its backend, whatever happens to rings, credits and other backends, until
//     the backend is removed or the flow ends. Only half-open entries give way to others (invariant D2).
//   - A backend gets no more new flows than its last report granted, on any number of CPUs; a report that has
//     run out grants nothing (D1). Repeated SYNs take nothing, unfinished flows give back what they took.
//   - A packet sees one ring or VIP table, the old or the new one. What it reads is not overwritten before it is
//     done: a half is refilled only after a grace period since it was left (D3).
//   - Maps, link and hash key are pinned under a layout version. Opening takes them over and replaces the program
//     in its link in one step; ids of VIPs and backends stay with their identity.
//
// Memory: 64 bytes a flow line of eight, a VIP and a backend each (and as much for its credit), 4 bytes a ring
// slot, counters for each CPU, and 64 KiB a CPU for what it remembers of VIPs. Nothing exists before Open.
//
// All methods may be called from any goroutine; those that change something take turns. Reading counters and
// flows stops nobody.
//
// Sources: the Maglev paper for rings, "Cuckoo Filter" (CoNEXT 2014) for the two lines of an entry,
// Documentation/bpf for the kernel's side.
package table
