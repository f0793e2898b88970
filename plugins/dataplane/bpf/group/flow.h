/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* From a flow to its member: entries, ring, and the two halves of a row. */
#pragma once

#include "maps.h"

static inline u64 make_entry(u64 h, u32 slot, u32 bound, u32 stamp, u64 established)
{
	return h >> 32 | (u64)(slot & 0xff) << 32 | (u64)(bound & BOUND_MASK) << 40 | established | (u64)(stamp & STAMP_MASK) << 53 | PRESENT;
}

static inline struct line *line_at(u32 i)
{
	i &= line_mask;
	return bpf_map_lookup_elem(&group_flows, &i);
}

/* The functions that are not inline are verified once, by themselves, whatever their callers know. */

/* The flow's entry in a line, or -1. */
noinline int flow_find(u32 line, u32 print)
{
	struct line *l = line_at(line);

	if (!l)
		return -1;
#pragma unroll
	for (int i = 0; i < LINE; i++) {
		u64 e = READ_ONCE(l->entry[i]);

		if ((u32)e == print && e & PRESENT)
			return i;
	}
	return -1;
}

/* The entry of a line that gives way first: its rank (3 empty, 2 idle, 1 half-open or closing, 0 none does) from bit 8,
 * how many are empty from bit 3, its index. Of two lines the greater one is taken, which keeps both equally full. */
noinline u32 flow_victim(u32 line, u32 stamp)
{
	struct line *l = line_at(line);
	u32 best = 0, empty = 0;

	if (!l)
		return 0;
#pragma unroll
	for (int i = 0; i < LINE; i++) {
		u64 e = READ_ONCE(l->entry[i]);
		u32 rank = !(e & ESTABLISHED);

		if (((stamp - (u32)(e >> 53)) & STAMP_MASK) > IDLE)
			rank = 2;
		if (!(e & PRESENT))
			rank = 3;
		empty += rank == 3;
		if (rank > best >> 8)
			best = rank << 8 | i;
	}
	return best | empty << 3;
}

/* A half-open entry may be as old, too: it has been given up by its client. */
static inline bool is_closing(u64 e, u32 stamp)
{
	return !(e & ESTABLISHED) && ((stamp - (u32)(e >> 53)) & STAMP_MASK) >= CLOSING;
}

/* What was decided about a packet. */
struct decision {
	struct path path; /* to the flow's member */
	u32 slot;
	u32 opened; /* 1: the flow was bound to the member now */
	u32 outcome;
	u32 unused;
};

/* The member of the flow under this membership: its slot, or NO_MEMBER. */
static inline u32 pick(struct half *half, const struct flow *f, u64 h, u64 now, struct decision *d)
{
	bool opens = f->protocol != IP_TCP || (f->tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	bool syn = f->protocol == IP_TCP && f->tcp & TCP_SYN;
	bool ends = f->protocol == IP_TCP && !syn && f->tcp & (TCP_FIN | TCP_RST);
	u32 stamp = now >> STAMP_SHIFT & STAMP_MASK, print = h >> 32, slot;
	/* Two lines may hold the flow: the second is the first's place turned by the fingerprint. */
	u32 first = h, second = (u32)h ^ (print * 0x9e3779b1), line = first, best, other;
	u64 established = ESTABLISHED, e, fresh;
	struct line *l;
	int i;

	i = flow_find(first, print);
	if (i < 0) {
		line = second;
		i = flow_find(second, print);
	}
	if (likely(i >= 0)) {
		l = line_at(line);
		if (!l)
			return NO_MEMBER;
		i &= LINE - 1;
		e = READ_ONCE(l->entry[i]);
		slot = e >> 32 & 0xff;
		struct member *m = &half->members[slot];
		if (syn)
			established = e & ESTABLISHED; /* a repeated or forged SYN changes nothing */
		else if (f->protocol == IP_TCP && !f->data && is_closing(e, stamp))
			ends = true; /* after its FIN a client only acknowledges */
		if (ends) {
			established = 0;
			stamp -= CLOSING;
		}
		if (likely(m->usable && (m->bound & BOUND_MASK) == (e >> 40 & BOUND_MASK))) {
			fresh = make_entry(h, slot, m->bound, stamp, established);
			if (fresh != e)
				__sync_val_compare_and_swap(&l->entry[i], e, fresh);
			return slot;
		}
		d->outcome = OUTCOME_REBOUND;
	} else {
		best = flow_victim(first, stamp);
		other = flow_victim(second, stamp);
		line = first;
		if (other >> 3 > best >> 3) {
			best = other;
			line = second;
		}
		l = line_at(line);
		if (!l)
			return NO_MEMBER;
		/* Packets in the middle of a connection that nobody knows take room, never somebody's place. */
		if (best >> 8 == 0 || (best >> 8 == 1 && !opens))
			l = NULL;
		i = best & (LINE - 1);
		if (opens || ends)
			established = 0;
		if (ends)
			stamp -= CLOSING;
	}
	slot = half->ring[(u32)h >> 20 & (RING - 1)];
	if (slot >= MEMBERS)
		return NO_MEMBER;
	d->opened = 1;
	if (!l) {
		d->outcome = OUTCOME_UNCACHED;
		return slot;
	}
	e = READ_ONCE(l->entry[i]);
	fresh = make_entry(h, slot, half->members[slot].bound, stamp, established);
	if (__sync_val_compare_and_swap(&l->entry[i], e, fresh) != e)
		d->outcome = OUTCOME_UNCACHED; /* another CPU was faster; the next packet tries again */
	return slot;
}

/* Where the member is, as client.h has it. */
static inline void path_to(struct path *p, const struct member *m)
{
	__builtin_memcpy(p->host, m->underlay, sizeof(p->host));
	__builtin_memcpy(p->source, m->source, sizeof(p->source));
	p->vni = m->vni;
	p->link = m->link;
	p->mac = m->mac;
	p->epoch = m->epoch;
	p->family = m->family;
}

/* Takes the way to the member out of whichever half is in use, whole: 0, or the outcome that ends the packet. */
noinline int choose(u32 index, const struct flow *f, u64 h, u64 now, struct decision *d)
{
	struct row *row = bpf_map_lookup_elem(&group_rows, &index);

	if (!row || !f || !d)
		return OUTCOME_NO_MEMBER;
	for (int i = 0; i < 3; i++) {
		u64 word = READ_ONCE(row->word);
		u32 at = index * 2 + (word & 1), slot;
		struct half *half;

		half = bpf_map_lookup_elem(&group_halves, &at);
		if (!word || !half)
			return OUTCOME_NO_MEMBER;
		slot = pick(half, f, h, now, d);
		if (slot < MEMBERS)
			path_to(&d->path, &half->members[slot]);
		barrier();
		if (likely(READ_ONCE(row->word) == word)) {
			d->slot = slot;
			return slot < MEMBERS && d->path.family ? 0 : OUTCOME_NO_MEMBER;
		}
	}
	return OUTCOME_UNSETTLED;
}
