/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Choosing a backend for a new flow: the ring names the candidates, credit decides (invariant D1). */
#pragma once

#include "count.h"
#include "mutant.h"

#define PROBES 32

/* One of a backend's credits. Tickets are handed out by an atomic addition, so no two CPUs get the same; a
 * ticket beyond the grant goes back. A report only moves the grant, so it never races with those who take. */
static inline bool take_credit(u32 id, u64 now)
{
	struct credit *c = bpf_map_lookup_elem(&credits, &id);
	u64 expires;

	if (!c)
		return false;
	expires = READ_ONCE(c->expires);
	if (expires && now >= expires && !MUTANT(STALE_REPORT))
		return false;
	if (MUTANT(CREDIT_NOT_ATOMIC)) {
		u64 seen = READ_ONCE(c->dispatched);

		for (volatile int i = 0; i < 64; i++) /* wide enough for another CPU to come between */
			;
		if (seen >= READ_ONCE(c->grant))
			return false;
		WRITE_ONCE(c->dispatched, seen + 1);
		return true;
	}
	if (READ_ONCE(c->dispatched) >= READ_ONCE(c->grant))
		return false;
	if (__sync_fetch_and_add(&c->dispatched, 1) >= READ_ONCE(c->grant)) {
		__sync_fetch_and_add(&c->dispatched, -1);
		return false;
	}
	return true;
}

/* A flow that went without asking is counted all the same: its host will report it as accepted. */
static inline void charge(u32 id)
{
	struct credit *c = bpf_map_lookup_elem(&credits, &id);

	if (c)
		__sync_fetch_and_add(&c->dispatched, 1);
}

#define RETURN_TRIES 4

/* A flow that was never finished was not accepted either: it is among those between floor and dispatched. One that
 * is not, because the host's count has begun anew, returns nothing; so no report ever lets in more than its limit.
 * Nor does one after RETURN_TRIES lost races: the next report makes up for it. */
separate int return_credit(u32 id)
{
	struct credit *c = bpf_map_lookup_elem(&credits, &id);

	if (!c || MUTANT(CREDIT_KEPT))
		return 0;
	for (int i = 0; i < RETURN_TRIES; i++) {
		u64 dispatched = READ_ONCE(c->dispatched);

		if (dispatched <= READ_ONCE(c->floor))
			return 0;
		if (__sync_val_compare_and_swap(&c->dispatched, dispatched, dispatched - 1) == dispatched) {
			__sync_fetch_and_add(&c->returned, 1);
			return 1;
		}
	}
	return 0;
}

static inline struct backend *live_backend(u32 id)
{
	struct backend *b = bpf_map_lookup_elem(&backends, &id);

	return b && id && b->used ? b : NULL;
}

/* Slot i of a ring. */
static inline u32 ring_slot(u64 ring, u32 i)
{
	u32 at = (u32)(ring & 0xffffff) + i / RING_CHUNK;
	struct ring_chunk *r = bpf_map_lookup_elem(&rings, &at);

	return r ? READ_ONCE(r->backend[i % RING_CHUNK]) : 0;
}

/* Where a flow starts to look. The bits that chose its line and its fingerprint are mixed once more. */
static inline u32 ring_start(u64 hash, u32 slots)
{
	hash ^= hash >> 29;
	hash *= 0x9e3779b97f4a7c15ULL;
	return hash_index((u32)(hash >> 32), slots);
}

/* The ring's own answer, asked of nobody. For packets whose flow has no entry. */
separate u32 first_choice(struct vip *v, u64 hash)
{
	u32 chosen = 0;

	if (!v)
		return 0;
	for (int again = 0; again < 2; again++) {
		u64 ring = READ_ONCE(v->ring);
		u32 slots = ring >> 24 & 0xffffff;

		if (!slots)
			return 0;
		chosen = ring_slot(ring, ring_start(hash, slots));
		/* A half is refilled no earlier than a grace period after it was left; see D3. */
		if (likely(READ_ONCE(v->ring) == ring))
			break;
	}
	return live_backend(chosen) ? chosen : 0;
}

/* The backend in a slot behind the end or before it, one of whose credits is taken, or 0. */
separate u32 try_slot(u64 ring, u32 at, u64 now)
{
	u32 slots = ring >> 24 & 0xffffff, id;

	if (at >= slots)
		at -= slots;
	id = ring_slot(ring, at);
	return live_backend(id) && take_credit(id, now) ? id : 0;
}

/* A backend with credit, which is taken: the ring's answer or one of the PROBES - 1 slots behind it. A negative
 * reason when there is none. */
separate int choose(struct vip *v, u64 hash, u64 now)
{
	u32 slots, start, id;
	u64 ring;

	if (!v)
		return -REASON_NO_BACKEND;
	ring = READ_ONCE(v->ring);
	slots = ring >> 24 & 0xffffff;
	if (!slots)
		return -REASON_NO_BACKEND;
	start = ring_start(hash, slots);
	for (u32 i = 0; i < PROBES; i++) {
		id = try_slot(ring, start + i, now);
		if (id) {
			if (i)
				count(REASON_PROBED);
			return (int)id;
		}
	}
	if (v->flags & VIP_LAST_WEIGHTS) {
		id = first_choice(v, hash);
		if (id) {
			charge(id);
			return (int)id;
		}
	}
	return -REASON_EXHAUSTED;
}
