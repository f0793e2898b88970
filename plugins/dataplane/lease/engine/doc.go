// Package engine decides everything about leases: who may send to which producer, and until when. It does no I/O:
// messages and readings of a boot-time clock go in, messages and instructions come out.
//
//   - Book is a leasing agent's side: it grants leases on producers out of the shares it holds of their quotas.
//   - Shares is a producer's host's side: it splits the quota into disjoint shares, one for each agent.
//   - Set is a consumer's side: it keeps k leases of one service from all its agents.
//
// # What holds
//
// At no moment do more consumers use leases of a producer than its quota allows, whatever the network loses, delays,
// repeats or reorders, whichever process restarts, and with any offset between the hosts' clocks (invariant D5).
// It rests on one rule, applied twice: *who benefits from a time limit counts from before it asked*, who granted it
// counts from when it was asked.
//
//	consumer ── Want (sent at s) ──► agent (received at r)      consumer's limit s+TTL ≤ agent's limit r+TTL
//	agent ── Ack{stamp a} ──► producer's host ── Hold{echo a} ──► agent
//	                                                            agent's limit a+TTL ≤ producer's limit, from its sending
//
// A lease never outlives the hold it was granted from, so a producer's host that has heard nothing of an agent for the
// hold's TTL may give that agent's share to another one. Clocks are compared with themselves only. Their rates are
// taken to be equal to within 1/1000: agents and producers add that much to what they granted.
//
// Requests state the whole truth instead of changes: a Want lists everything the consumer uses, so that an agent may
// free at once what is not in it; a consumer takes only the answer to its latest Want. A message that comes twice or
// late is therefore harmless.
//
// An agent that restarts has forgotten who holds what. For one TTL it grants nothing new, and renews what consumers
// show it with a token that only it can have made.
//
// A producer's epoch is what the agents have seen of it plus one (Lamport): the host that takes a producer over asks all
// agents for the highest and goes above it. An agent makes a new epoch durable before it answers.
//
// The types are not safe for concurrent use.
package engine
