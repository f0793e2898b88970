/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The flow table (invariant D2): lines of eight entries in one cache line each, shared by all CPUs, changed by
 * 8-byte compare-and-swap. A flow may be in either of two lines, or in the overflow table.
 *
 * An entry:  print 33 | seen 8 | generation 4 | credited 1 | state 2 | backend 16
 * The other line is computed from this one and the print (partial-key cuckoo hashing), so an entry can be moved
 * to another table of the same size and key without knowing the flow.
 *
 * `seen` counts units of 2^30 ns while a flow is half-open, 2^34 ns afterwards, and is written only when it
 * changes: an established flow's entry is stored to once in 17 seconds. */
#pragma once

#include "credit.h"
#include "vip.h"

enum flow_state {
	FLOW_OPENING = 0,   /* SYN seen; half-open */
	FLOW_TENTATIVE = 1, /* one packet seen, of UDP or in the middle of a TCP flow; half-open too */
	FLOW_ESTABLISHED = 2,
	FLOW_BRIEF = 3, /* closing, or of UDP: forgotten sooner */
};

#define BACKEND_OF(e) ((u32)((e) & 0xffff))
#define STATE_OF(e) ((u32)((e) >> 16 & 3))
#define CREDITED (1ULL << 18)
#define GENERATION_OF(e) ((u32)((e) >> 19 & 15))
#define SEEN_OF(e) ((u32)((e) >> 23 & 255))
#define PRINT_OF(e) ((e) >> 31)
#define HALF_OPEN(e) (STATE_OF(e) <= FLOW_TENTATIVE)

#define PRINT_BITS 33

static inline u64 print_of_hash(u64 hash)
{
	return (hash & 0xffffffff) << 1 | hash >> 63;
}

static inline u32 other_line(u32 line, u64 print)
{
	return (line ^ ((u32)(print * 0x5bd1e995u) | 1)) & flow_mask;
}

/* Where an entry is put if that is free, and looked for first. */
static inline u32 home_slot(u64 print)
{
	return print & (SLOTS - 1);
}

static inline u32 seen_now(u32 state, u64 now)
{
	return (state <= FLOW_TENTATIVE ? now >> 30 : now >> 34) & 255;
}

static inline u64 make_entry(u64 print, u32 backend, u32 generation, u32 state, u64 credited, u64 now)
{
	return print << 31 | (u64)seen_now(state, now) << 23 | (u64)(generation & 15) << 19 | credited | (u64)state << 16 | backend;
}

static inline u64 with_state(u64 e, u32 state, u64 now)
{
	return (e & ~(255ULL << 23 | 3ULL << 16)) | (u64)seen_now(state, now) << 23 | (u64)state << 16;
}

static inline bool swap_entry(u64 *slot, u64 old, u64 new)
{
	if (MUTANT(BLIND_STORE)) {
		WRITE_ONCE(*slot, new);
		return true;
	}
	return __sync_val_compare_and_swap(slot, old, new) == old;
}

/* The slot of a flow in a line. Adding a zero that the verifier takes for anything makes it one case for all eight
 * slots: it would follow the rest of the program once for each. */
static inline u64 *find_in_line(struct control_block *c, struct flow_line *l, u64 print)
{
	u64 at;

#pragma unroll
	for (int i = 0; i < SLOTS; i++) {
		at = i;
		if (PRINT_OF(READ_ONCE(l->entry[i])) == print && READ_ONCE(l->entry[i]))
			goto found;
	}
	return NULL;
found:
	at = (at + READ_ONCE(c->zero)) & (SLOTS - 1);
	return &l->entry[at];
}

/* The entry of a removed backend means nothing; NULL in its place. */
static inline struct backend *backend_of_entry(u64 e)
{
	struct backend *b = live_backend(BACKEND_OF(e));

	if (b && (b->generation & 15) != GENERATION_OF(e) && !MUTANT(NO_GENERATION))
		return NULL;
	return b;
}

/* What follows counts and compares in functions of their own, which are one case for the verifier: it would follow
 * each of the ways in which eight entries can differ. */

separate int is_live(u64 e)
{
	return e && backend_of_entry(e);
}

/* Bit i: slot i is free, or belongs to a removed backend. */
static inline u32 free_slots(struct flow_line *l)
{
	u32 mask = 0;

	for (int i = 0; i < SLOTS; i++)
		mask |= (u32)!is_live(READ_ONCE(l->entry[i])) << i;
	return mask;
}

/* How long a half-open entry has been waiting, at least 1; 0 for one that must not be evicted. */
separate int waiting(u64 e, u64 now)
{
	if (!HALF_OPEN(e) && !MUTANT(EVICT_ANY) && !MUTANT(ACK_EVICTS))
		return 0;
	return ((seen_now(FLOW_OPENING, now) - SEEN_OF(e)) & 255) + 1;
}

separate int longer(u32 a, u32 b)
{
	return b > a ? b : a;
}

/* The half-open entry that has been waiting longest: its waiting << 4 | slot; 0 if all are established. */
static inline u32 find_victim(struct flow_line *l, u64 now)
{
	u32 longest = 0;

	for (int i = 0; i < SLOTS; i++)
		longest = longer(longest, (u32)waiting(READ_ONCE(l->entry[i]), now) << 4 | i);
	return longest > 15 ? longest : 0;
}

static inline u32 ones(u32 mask)
{
	return __builtin_popcount(mask & 255);
}

/* Number of the lowest bit set. */
static inline u32 lowest(u32 mask)
{
	return ones((mask & -mask) - 1) & (SLOTS - 1);
}

enum insert { INSERTED = 0, INSERT_FULL, INSERT_LOST };

/* Free slots that a flow's first line must have to be taken without regard to the second. At half load one flow in seven
 * is then in its second line; always taking the emptier would put there one in three, and let as many overflow. */
#define SPARE 5

/* Puts an entry into its first line, the emptier one when that fills up; into a victim's place if evict. INSERT_LOST: another CPU was faster. */
static inline int insert(struct flow_line *a, struct flow_line *b, u64 entry, u64 now, bool evict)
{
	u32 in_a, in_b, slot;
	u64 old;

	if (!a || !b)
		return INSERT_FULL;
	in_a = free_slots(a);
	in_b = free_slots(b);
	if (in_a | in_b) {
		if (ones(in_a) < SPARE && ones(in_b) > ones(in_a)) {
			a = b;
			in_a = in_b;
		}
		slot = in_a >> home_slot(PRINT_OF(entry)) & 1 ? home_slot(PRINT_OF(entry)) : lowest(in_a);
		old = READ_ONCE(a->entry[slot]);
		/* What was free a moment ago may have become another flow's, and where there is room nobody gives way. */
		if (is_live(old))
			return INSERT_LOST;
	} else {
		if (!evict)
			return INSERT_FULL;
		in_a = find_victim(a, now);
		in_b = find_victim(b, now);
		if (in_b > in_a) {
			a = b;
			in_a = in_b;
		}
		if (!in_a)
			return INSERT_FULL;
		slot = in_a & (SLOTS - 1);
		old = READ_ONCE(a->entry[slot]);
		/* A victim may have become one that must stay. */
		if (is_live(old) && !waiting(old, now))
			return INSERT_LOST;
	}
	if (!swap_entry(&a->entry[slot], old, entry))
		return INSERT_LOST;
	if (is_live(old)) {
		count(REASON_EVICTED);
		if (old & CREDITED)
			return_credit(BACKEND_OF(old));
	}
	return INSERTED;
}

/* Another entry of the same flow, in front of the one that was just put in: a second CPU opened the flow too.
 * Both look after they have put theirs in; the first in order stays. */
separate u64 find_rival(struct flow_line *a, struct flow_line *b, u64 print, u64 mine)
{
	struct control_block *c = the_control();
	u64 *slot, e;

	if (!a || !b || !c)
		return 0;
	slot = find_in_line(c, a, print);
	if (!slot)
		slot = find_in_line(c, b, print);
	e = slot ? READ_ONCE(*slot) : mine;
	return e == mine || PRINT_OF(e) != print ? 0 : e;
}

separate int withdraw(struct flow_line *a, struct flow_line *b, u64 mine)
{
	if (!a || !b)
		return 0;
	for (int i = 0; i < SLOTS; i++) {
		if (__sync_val_compare_and_swap(&a->entry[i], mine, 0) == mine)
			return 0;
		if (__sync_val_compare_and_swap(&b->entry[i], mine, 0) == mine)
			return 0;
	}
	return 0;
}
