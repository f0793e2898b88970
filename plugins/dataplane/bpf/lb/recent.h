/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What a CPU keeps to itself: VIPs that it has seen, and the time. Worth nothing to another process, so not pinned. */
#pragma once

#include "flow.h"

#define RECENT_BITS 10 /* lines, of two entries each */

/* One address, protocol and port of a VIP: however many ports that has, it is found by comparing, not by searching. */
struct recent_vip {
	be32 local[4]; /* the first word alone for IPv4 */
	u32 key;       /* family << 24 | protocol << 16 | port as on the wire */
	u32 vip;       /* and above 16 bits its flags: those of them that a settled flow's packets ask for */
	u64 epoch; /* of the VIP table that it was found in; of another one it means nothing, and 0 is no table's */
};

struct cpu_local {
	u64 tick; /* jiffies when `seen` was computed */
	u64 seen; /* of an established flow's entry, if it is seen now */
	u64 unused[6];
	struct recent_vip recent[2 << RECENT_BITS];
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE); /* not that anybody maps it: such arrays begin with a cache line */
	__uint(max_entries, 1);          /* CPUs */
	__type(key, u32);
	__type(value, struct cpu_local);
} cpu_local SEC(".maps");

static inline struct cpu_local *this_cpu(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&cpu_local, &cpu);
}

/* The coarse clock stands still between ticks, so it is asked once a tick. The verifier turns bpf_jiffies64 into a
 * load; the clock is a call. */
static inline u64 current_seen(struct cpu_local *l)
{
	u64 tick = bpf_jiffies64();

	if (unlikely(l->tick != tick)) {
		l->seen = seen_now(FLOW_ESTABLISHED, bpf_ktime_get_coarse_ns());
		l->tick = tick;
	}
	return l->seen;
}

static inline u32 recent_key(u8 family, u8 protocol, be16 port)
{
	return (u32)family << 24 | (u32)protocol << 16 | port;
}

/* The first of the ways where an address and port may be. */
static inline struct recent_vip *recent_ways(struct cpu_local *l, const be32 *local, u32 key, int family)
{
	u32 h = (local[0] ^ key ^ (family == 6 ? local[3] : 0)) * 0x9e3779b1u;

	return &l->recent[h >> (32 - RECENT_BITS) << 1];
}

static inline bool is_recent(const struct recent_vip *r, const be32 *local, u32 key, u64 epoch, int family)
{
	if (r->local[0] != local[0] || r->key != key || r->epoch != epoch)
		return false;
	return family == 4 || (r->local[1] == local[1] && r->local[2] == local[2] && r->local[3] == local[3]);
}

/* The VIP of an address and port and its flags, or 0. family is a constant. */
static inline u32 find_recent(struct cpu_local *l, const be32 *local, u32 key, u64 epoch, int family)
{
	struct recent_vip *r = recent_ways(l, local, key, family);

	if (likely(is_recent(&r[0], local, key, epoch, family)))
		return r[0].vip;
	if (is_recent(&r[1], local, key, epoch, family))
		return r[1].vip;
	return 0;
}

/* Keeps what a query has found in the VIP table of that epoch. A CPU runs one such program at a time, so nobody sees an
 * entry half written. */
separate int keep_recent(const struct query *q, u64 epoch)
{
	struct cpu_local *l = this_cpu();
	struct recent_vip *r;
	u32 key;

	if (!l || !q)
		return 0;
	key = recent_key(q->family, q->protocol, (be16)(q->ports >> 16));
	r = recent_ways(l, q->local, key, q->family);
	if (is_recent(&r[0], q->local, key, epoch, q->family) || is_recent(&r[1], q->local, key, epoch, q->family))
		return 0;
	r[1] = r[0];
	__builtin_memcpy(r->local, q->local, sizeof(r->local));
	r->key = key;
	r->vip = q->vip | (u32)(q->vip_flags & (VIP_KEEP_SOURCE | VIP_KEEP_PORT)) << 16;
	r->epoch = epoch;
	return 0;
}
