// Package group is interface groups: an address that belongs to no host, and the VNIs that answer for it.
//
// # Purpose
//
// The control plane, on a box, keeps groups, their members and where each member is attached. The agent on every host
// with clients pulls that and programs it; the program (bpf/group), on the egress of the host's overlay device, gives
// each flow to the group's address to one member and sends its packets there over VXLAN, unchanged. The member has the
// group's address on its own interface and answers the client directly. Nobody stands between the two.
//
// # Versions
//
// A Version is a term and an epoch. Every change is one epoch, durable before it is told. The log of epochs is kept
// compacted, to the last change of each group; a client asks from where it is and gets what changed since, in pages of
// bounded size, or everything when too many deletions lie between. It acknowledges a version when it has programmed it.
//
// A term belongs to one box. Who takes over takes a higher one than any it has heard of. Clients never go back to an
// older version, also not after a restart: what they have applied is in the pinned maps. A box that a client shows a
// version it never gave is fenced: it answers nobody and changes nothing until it is promoted. So two control planes
// may run, and every host follows one of them; nobody ever has a mixture.
//
// # Guarantees
//
//   - No packet is decided by parts of two versions (invariant D3): ring, members and version are one half of a
//     group's row; the half not in use is filled, after a grace period, and the row's word then names it. The program
//     looks at the word again after it has read.
//   - A flow keeps its member while that may be used, whatever happens to others (D2's rules for entries). When a member
//     goes down or its slot gets another owner, its generation moves on and its flows are dead without a scan.
//   - A client uses what it cannot confirm no longer than its lease, counted from asking on the boot-time clock (D5) and
//     enforced in the program: with a dead agent too. Policy closed drops then, open goes on and counts.
//   - Wait(v) returns when no client of this control plane uses anything older than v: it has acknowledged v, or its
//     lease has run out. After a restart or a takeover it waits one lease for clients that are not known.
//
// Wait does not know of clients that only hear another box which still leads: promote a box when the other is dead, cut
// off or stopped. VNIs are safe all the same: a host's attachment lease and the epoch in every packet (D4).
//
// # Parts
//
// Store, Clients and Follower are pure engines, stepped by their owners; a script in testdata/store is their manual. Part
// is the control plane's adapter, Agent the host's, Datapath the program's maps as Go sees them.
//
// # Lifetime and concurrency
//
// A Part may be used from many goroutines; one change is made at a time. An Agent's Run does everything that concerns
// program and network namespace on the calling goroutine; program, routes and flows stay when it ends.
//
// Sources: Eisenbud et al., Maglev (NSDI 2016), section 3.4, for the ring; RFC 7348 for the packet; tc-bpf(8) and
// Documentation/bpf in the kernel's tree for the program.
package group
