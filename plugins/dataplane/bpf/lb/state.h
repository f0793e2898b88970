/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What a packet does to its flow's entry, and what it becomes without one. */
#pragma once

#include "flow.h"

separate int tell(const struct query *q, u32 backend, u32 kind)
{
	struct control_block *c = the_control();
	struct event *e;

	if (!c || !q || !READ_ONCE(c->events))
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count(REASON_EVENT_LOST);
		return 0;
	}
	__builtin_memcpy(e->client, q->client, sizeof(e->client));
	__builtin_memcpy(e->local, q->local, sizeof(e->local));
	e->ports = q->ports;
	e->vip = q->vip;
	e->backend = backend;
	e->kind = kind;
	e->family = q->family;
	e->protocol = q->protocol;
	__builtin_memset(e->unused, 0, sizeof(e->unused));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* What a flow is once both sides have spoken. */
static inline u32 settled(const struct query *q)
{
	return q->protocol == IP_TCP ? FLOW_ESTABLISHED : FLOW_BRIEF;
}

/* Nothing to write: the packet says nothing new. Most packets of established flows end here. */
static inline bool unchanged(const struct query *q, u64 e)
{
	return STATE_OF(e) == settled(q) && SEEN_OF(e) == seen_now(FLOW_ESTABLISHED, q->now) &&
	       !(q->flags & (TCP_SYN | TCP_FIN | TCP_RST));
}

/* What a packet that is no SYN makes of an entry. */
static inline u64 next_entry(const struct query *q, u64 e)
{
	u64 now = q->now;

	if (q->flags & (TCP_FIN | TCP_RST))
		return with_state(e, FLOW_BRIEF, now);
	switch (STATE_OF(e)) {
	case FLOW_TENTATIVE:
		/* One packet, or a burst of them, proves nothing: a flood sends those too. */
		if (seen_now(FLOW_TENTATIVE, now) == SEEN_OF(e))
			return e;
		break;
	case FLOW_BRIEF:
		/* After its FIN a client only acknowledges; data means that the reset was not the client's. */
		if (!q->data)
			return with_state(e, FLOW_BRIEF, now);
		break;
	}
	return with_state(e, settled(q), now);
}

/* The flow has an entry. True: it keeps its backend. False: this SYN opens a new connection. */
separate int known(const struct query *q, u64 *slot, u64 e)
{
	u64 next;

	if (!slot || !q || q->related)
		return true;
	if (q->flags & TCP_SYN) {
		/* A repetition, or somebody's guess at a live flow: nothing changes. A client that has closed may use its
		 * port again: a new connection, which goes where new ones go. Its backend may be drained by now, or down. */
		return STATE_OF(e) != FLOW_BRIEF && !MUTANT(SYN_REPEATS);
	}
	next = next_entry(q, e);
	if (STATE_OF(e) == FLOW_OPENING && q->flags & TCP_RST)
		next &= ~CREDITED; /* given up before it was a connection: the credit goes back, once */
	if (next == e || !swap_entry(slot, e, next))
		return true;
	if ((e ^ next) & CREDITED)
		return_credit(BACKEND_OF(e));
	if (STATE_OF(next) != STATE_OF(e))
		tell(q, BACKEND_OF(e), STATE_OF(next) == settled(q) ? EVENT_ESTABLISHED : EVENT_CLOSING);
	return true;
}

/* A miss in both lines: the overflow table knows the rest. */
static inline u64 *find_overflow(u64 hash)
{
	return bpf_map_lookup_elem(&overflow, &hash);
}

#define TRIES 3

/* Puts a new flow's entry where it can be found. 0 or a negative reason; another CPU's entry of the same flow
 * wins over ours, and *backend becomes its. */
separate int remember(const struct query *q, u64 entry, bool evict, u32 *backend)
{
	struct control_block *c = the_control();
	u64 hash, print = PRINT_OF(entry), rival;
	struct flow_line *a, *b;
	int done = INSERT_LOST;
	u32 ia, ib;

	if (!q || !backend)
		return -REASON_NO_BACKEND;
	hash = q->hash;
	ia = (u32)(hash >> 32) & flow_mask;
	ib = other_line(ia, print);
	a = bpf_map_lookup_elem(&flows, &ia);
	b = bpf_map_lookup_elem(&flows, &ib);
#pragma unroll 1
	for (int i = 0; i < TRIES && done == INSERT_LOST; i++)
		done = insert(a, b, entry, q->now, evict);
	if (done == INSERTED) {
		rival = find_rival(a, b, print, entry);
		if (!rival)
			return 0;
		withdraw(a, b, entry);
		if (!backend_of_entry(rival))
			return -REASON_RACE;
		if (entry & CREDITED)
			return_credit(BACKEND_OF(entry));
		*backend = BACKEND_OF(rival);
		return 0;
	}
	if (done == INSERT_LOST)
		return -REASON_RACE;
	/* What never evicts never overflows either: a flood of ACKs would fill the table for it. */
	if (!evict || MUTANT(NO_OVERFLOW))
		return -REASON_TABLE_FULL;
	if (bpf_map_update_elem(&overflow, &hash, &entry, UPDATE_NOEXIST))
		return -REASON_TABLE_FULL;
	if (c)
		__sync_fetch_and_add(&c->overflowed, 1);
	count(REASON_OVERFLOWED);
	return 0;
}

/* The flow has no entry. Its backend, or a negative reason. */
separate int open_flow(const struct query *q, struct vip *v)
{
	bool tcp, opens;
	struct vip_counter *counter;
	struct backend *b;
	u32 id, rival;
	u64 entry;
	int r;

	if (!v || !q)
		return -REASON_NO_BACKEND;
	tcp = q->protocol == IP_TCP;
	opens = !tcp || q->flags & TCP_SYN;
	if (q->related || !opens) {
		/* In the middle of a life that this table has not seen: the ring's answer is the best guess.
		 * It may take a free slot, never another's (D2), and takes no credit. */
		id = first_choice(v, q->hash);
		b = live_backend(id);
		if (!b)
			return -REASON_NO_BACKEND;
		if (q->related || q->flags & (TCP_RST | TCP_FIN))
			return (int)id;
		count(REASON_ADOPTED);
		entry = make_entry(print_of_hash(q->hash), id, b->generation, FLOW_TENTATIVE, 0, q->now);
		rival = id;
		r = remember(q, entry, MUTANT(ACK_EVICTS), &rival);
		return r == -REASON_RACE ? r : (int)rival;
	}
	r = choose(v, q->hash, q->now);
	if (r < 0)
		return r;
	id = (u32)r;
	b = live_backend(id);
	if (!b)
		return -REASON_NO_BACKEND;
	entry = make_entry(print_of_hash(q->hash), id, b->generation, tcp ? FLOW_OPENING : FLOW_TENTATIVE, CREDITED, q->now);
	rival = id;
	r = remember(q, entry, true, &rival);
	if (r == -REASON_TABLE_FULL && v->flags & VIP_LAST_WEIGHTS)
		r = 0; /* forwarded, but without memory of it */
	if (r < 0) {
		return_credit(id);
		return r;
	}
	counter = count_vip(q->vip);
	if (counter && rival == id)
		counter->flows++;
	return (int)rival;
}
