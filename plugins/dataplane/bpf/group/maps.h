/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the program and user space share, and the counters. */
#pragma once

#include "ratchet.h"
#include "client.h"

#define MEMBERS 256
#define RING 4096
#define LINE 8

enum { POLICY_CLOSED = 0, POLICY_OPEN };
enum { NO_MEMBER = 0xffff };

/* Shared with dataplane/group/datapath.go. */
struct member {
	be32 underlay[4]; /* IPv4 in the first word */
	be32 source[4];
	u32 vni;
	u32 link;
	u32 generation; /* the control plane's; what flows are bound to is bound */
	u16 bound;
	u16 epoch;
	struct mac mac;
	u8 family; /* 0: nobody; 4 or 6 */
	u8 usable; /* for flows that it has; new ones come by the ring */
};

struct half {
	u64 version;
	struct member members[MEMBERS];
	u16 ring[RING];
};

struct row {
	u64 word; /* version << 1 | half; 0: no membership yet */
	u32 tag;  /* the group's id */
	u32 policy;
	u64 unused[6];
};

struct lease {
	u64 until; /* CLOCK_BOOTTIME, ns */
	u64 unused[7];
};

struct line {
	u64 entry[LINE];
};

/* An entry: fingerprint 32, slot 8, bound 12, established 1, stamp 10, present 1. While its client is closing the
 * connection it is not established and its stamp is CLOSING behind the time. */
#define BOUND_MASK 0xfff
#define ESTABLISHED (1ULL << 52)
#define STAMP_MASK 0x3ff
#define PRESENT (1ULL << 63)
#define STAMP_SHIFT 33 /* of nanoseconds: 8.6 s */
#define IDLE 420       /* stamps, about an hour */
#define CLOSING 210    /* stamps, half an hour */

struct count {
	u64 packets;
	u64 bytes;
	u64 flows;
};

/* What became of packets that were not simply sent to the member of their flow. */
enum outcome {
	OUTCOME_SENT = 0,
	OUTCOME_UNCONFIRMED,        /* dropped: the lease has run out */
	OUTCOME_UNCONFIRMED_PASSED, /* sent on the last membership, as the group's policy says */
	OUTCOME_NO_MEMBER,          /* dropped: nobody serves */
	OUTCOME_MALFORMED,          /* dropped */
	OUTCOME_FRAGMENT,           /* dropped: the first fragment has not passed here */
	OUTCOME_NO_ROOM,            /* dropped: the kernel refused room for the outer headers */
	OUTCOME_UNSETTLED,          /* dropped: the membership changed at each look */
	OUTCOME_REBOUND,            /* sent: the flow's member has gone, it got another */
	OUTCOME_UNCACHED,           /* sent by the ring: no entry was free */
	OUTCOME_COUNT,
};

struct outcomes {
	u64 n[OUTCOME_COUNT];
};

struct {
	__uint(type, MAP_HASH);
	__uint(max_entries, 512);
	__uint(map_flags, MAP_NO_PREALLOC);
	__type(key, be32[4]);
	__type(value, u32);
} group_addresses SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 64);
	__uint(map_flags, MAP_MMAPABLE);
	__type(key, u32);
	__type(value, struct row);
} group_rows SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 128);
	__uint(map_flags, MAP_MMAPABLE);
	__type(key, u32);
	__type(value, struct half);
} group_halves SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, MAP_MMAPABLE);
	__type(key, u32);
	__type(value, struct lease);
} group_lease SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hash_key);
} group_key SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct line);
} group_flows SEC(".maps");

struct {
	__uint(type, MAP_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, u64);
} group_fragments SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, 64 * MEMBERS);
	__type(key, u32);
	__type(value, struct count);
} group_counts SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct outcomes);
} group_outcomes SEC(".maps");

const volatile u32 line_mask = 8191; /* lines of group_flows less one */

static inline void note(u32 what)
{
	u32 zero = 0;
	struct outcomes *o = bpf_map_lookup_elem(&group_outcomes, &zero);

	if (o && what < OUTCOME_COUNT)
		o->n[what]++;
}
