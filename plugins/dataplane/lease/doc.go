// Package lease lets hosts lease the producers of a service: a host sends a service's traffic straight to the hosts of
// the producers it has a lease of, over VXLAN, for as long as it has it.
//
//	box (Part)          leasing agent: grants leases out of its shares of producers' quotas
//	host (Agent)        keeps leases of what the host consumes, and offers the producers that are on it
//	program (datapath)  on the host's overlay device: service's address → leased host; ends each lease by itself
//	overlay.Gate        on the producer's host: drops what was sent under an older epoch
//
// Engines decide (package engine, which says what holds and why); here are their clocks, sockets, maps and keys. All
// times are CLOCK_BOOTTIME of one machine and never leave it: messages carry durations.
//
// Messages are sealed datagrams (control.KindLease): Want and Grant between consumer and box, Hold and Ack between
// producer's host and box, Nudge unasked from the box. Lost ones are asked for again by the engines.
//
// # Processes that end
//
// Part keeps in core's state what a new run must know: the key of the tokens, the longest TTL, and the highest epoch of
// every producer. A new run renews for one TTL and grants nothing new (engine.Book). Agent keeps program, tables and
// leases pinned: a new process finds in the slots what it had leased, shows it to the boxes and goes on; flows notice
// nothing. If none comes, each lease runs out in the program (invariant D5).
//
// # Concurrency
//
// Part's methods and its datagram handler may run at once; one mutex guards the book, nothing under it blocks. Agent
// is one loop; its helpers, exchanges and probes, only post events, and each has a time limit.
package lease
