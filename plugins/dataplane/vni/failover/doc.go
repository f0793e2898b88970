// Package failover decides which instance holds a virtual network interface (VNI). It does no I/O: a box steps an
// Engine, each host steps a Follower, and both say what is to be done.
//
// # Protocol
//
// A host beats every 50 ms to every box. A beat says which term and which version of its assignment the host
// follows, and for each entry of it whether the instance is healthy and whether it is attached. The leading box
// answers with the version it wants and, if the host has that version, with a lease. The lease covers everything
// attached on the host and counts from *sending* the beat, on the host's boot-time clock; the host's packet
// program stops at its end by itself. So a box knows when a host that fell silent stopped at the latest:
//
//	end of lease ≤ arrival of the last beat that was granted + lease
//
// # Moving a VNI (invariant D4)
//
//	Attached ──owner silent, a candidate is there──► Fencing ──its lease is over, or it confirms──► Down
//	    │                                                                                            │
//	    └──instance dead, host alive and says it let go──────────────────────────────────────────────┤
//	    ▲                                                                                            ▼
//	    └──────────── the host confirms ── Attaching ◄── {epoch+1, candidate} durable, candidate eligible
//
// Each attachment has an epoch, one higher than the one before, durable with its owner before any host hears of
// it. A host with nobody to take over keeps what it has: a lease that ran out is renewed when it is heard again.
//
// # Terms
//
// With two control planes the hosts are the electorate. A box leads in a term; a host follows the highest term
// it has heard of, and says so in every beat. A leader grants leases only while a majority of the hosts that vote
// beats in its term, and a new leader (also one that was only restarted) moves nothing before every lease that
// someone else may have granted has run out. What is attached where it learns from the hosts.
//
// # Damping
//
// An instance that failed is a candidate again after it was healthy for a hold-down, which doubles with each
// failure and is forgotten after a quiet minute. There is no automatic move back.
//
// Engine and Follower belong to one goroutine each. Times are durations since any fixed moment of a clock that
// never jumps.
package failover
