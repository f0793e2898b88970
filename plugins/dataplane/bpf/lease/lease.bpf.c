//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Egress of the overlay's device on a consumer's host: sends the traffic to a service's address to the hosts of the
 * producers it has leased.
 *
 * A lease ends here: each packet compares its slot's limit with the clock that also runs while the machine sleeps. If
 * the process that renews is dead, stopped or cut off, its leases pass nothing once they have run out (D5).
 *
 * User space writes slots as memory. A renewal is one store of the limit. Everything else of a slot changes behind its
 * sequence word, odd meanwhile: a packet that finds it odd or changed looks again, and at worst takes another slot.
 * A flow stays with its slot as long as the lease in it is the same; where it went is kept in a cache, and a flow that
 * fell out of it goes where its hash says, which is the same place unless leases came and went meanwhile. */
#include "ratchet.h"
#include "client.h"

LICENSE;

#define SERVICES 64
#define SLOTS 16  /* of one service; twice as many as leases, so that a slot rests before its next use */
#define ORDERED 8 /* leases of one service */

/* Shared with lease/datapath.go. */
struct slot {
	u64 sequence;
	u64 until;      /* CLOCK_BOOTTIME, ns; 0: empty */
	u64 generation; /* the lease's identity: 28 bits, not 0 */
	struct path path;
	/* What a restarted process must know of the lease; nothing to the program. */
	u64 token;
	u64 epoch;
	u32 agent;
	u8 producer[64];
	u32 unused;
};

struct row {
	u64 order; /* slots in use, a nibble each from below; how many, from bit 32 */
	u32 tag;   /* the service's identity, for the hash */
	u32 unused[13];
};

struct count {
	u64 packets;
	u64 bytes;
	u64 flows;
};

struct flow_key {
	u64 hash;
	u64 service;
};

enum outcome {
	OUTCOME_SENT = 0,
	OUTCOME_EXPIRED,   /* dropped: all leases have run out */
	OUTCOME_NO_LEASE,  /* dropped: there is none */
	OUTCOME_MALFORMED, /* dropped */
	OUTCOME_FRAGMENT,  /* dropped: the first fragment has not passed here */
	OUTCOME_NO_ROOM,   /* dropped: the kernel refused room for the outer headers */
	OUTCOME_MOVED,     /* sent: the flow's lease is over, it got another */
	OUTCOME_COUNT,
};

struct outcomes {
	u64 n[OUTCOME_COUNT];
};

struct {
	__uint(type, MAP_HASH);
	__uint(max_entries, SERVICES * 2);
	__uint(map_flags, MAP_NO_PREALLOC);
	__type(key, be32[4]);
	__type(value, u32);
} lease_addresses SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, SERVICES);
	__uint(map_flags, MAP_MMAPABLE);
	__type(key, u32);
	__type(value, struct row);
} lease_rows SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, SERVICES * SLOTS);
	__uint(map_flags, MAP_MMAPABLE);
	__type(key, u32);
	__type(value, struct slot);
} lease_slots SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hash_key);
} lease_key SEC(".maps");

struct {
	__uint(type, MAP_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow_key);
	__type(value, u32); /* generation << 4 | slot */
} lease_flows SEC(".maps");

struct {
	__uint(type, MAP_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct fragment_key);
	__type(value, u64);
} lease_fragments SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, SERVICES * SLOTS);
	__type(key, u32);
	__type(value, struct count);
} lease_counts SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct outcomes);
} lease_outcomes SEC(".maps");

/* Off only in the mutant that shows that the tests would notice. */
const volatile bool check_expiry = true;

static inline void note(enum outcome what)
{
	u32 zero = 0;
	struct outcomes *o = bpf_map_lookup_elem(&lease_outcomes, &zero);

	if (o)
		o->n[what]++;
}

#define EXPIRED (1u << 31) /* beyond every generation */

/* Takes the path out of a slot if the lease in it is good, and is the one of that generation (0: any). Returns the
 * generation, EXPIRED, or 0: none. It is global so that the verifier sees it once, and not at each call. */
noinline u32 take(u32 at, u32 generation, u64 now, struct path *path)
{
	struct slot *s = bpf_map_lookup_elem(&lease_slots, &at);
	u64 sequence, until, found;

	if (!s || !path)
		return 0;
	for (int i = 0; i < 4; i++) {
		sequence = READ_ONCE(s->sequence);
		if (sequence & 1)
			continue;
		barrier();
		until = READ_ONCE(s->until);
		found = READ_ONCE(s->generation);
		*path = s->path;
		barrier();
		if (READ_ONCE(s->sequence) != sequence)
			continue;
		if (!until || !path->family || (generation && generation != found))
			return 0;
		return check_expiry && now >= until ? EXPIRED : (u32)found;
	}
	return 0;
}

/* The slot that the flow uses, its lease good at this moment: the slot, or -1. */
static inline int choose(struct row *row, u32 service, u64 h, u64 now, struct path *path, int *how, bool *opened)
{
	struct flow_key key = { .hash = h, .service = service };
	u64 order = READ_ONCE(row->order);
	u32 n = order >> 32 & 15, k, value, slot, generation;
	u32 *known;

	known = bpf_map_lookup_elem(&lease_flows, &key);
	if (likely(known)) {
		value = *known;
		slot = value & (SLOTS - 1);
		generation = take(service * SLOTS + slot, value >> 4, now, path);
		if (likely(generation && generation != EXPIRED))
			return slot;
		if (generation)
			*how = OUTCOME_EXPIRED;
	}
	if (n > ORDERED)
		n = ORDERED;
	k = hash_index(h >> 32, n);
	for (u32 i = 0; i < ORDERED; i++) {
		if (i >= n)
			break;
		slot = order >> ((k & 7) * 4) & (SLOTS - 1);
		if (++k >= n)
			k = 0;
		generation = take(service * SLOTS + slot, 0, now, path);
		if (!generation)
			continue;
		if (generation == EXPIRED) {
			*how = OUTCOME_EXPIRED;
			continue;
		}
		value = generation << 4 | slot;
		bpf_map_update_elem(&lease_flows, &key, &value, UPDATE_ANY);
		*how = known ? OUTCOME_MOVED : OUTCOME_SENT;
		*opened = true;
		return slot;
	}
	return -1;
}

SEC("tc")
int lease_egress(struct __sk_buff *skb)
{
	u32 *index, zero = 0, at, len = skb->len;
	int how = OUTCOME_SENT, parsed, slot;
	struct hash_key *key;
	struct path path = {};
	struct count *c;
	struct row *row;
	bool opened = false;
	struct flow f = {};
	u64 h;

	parsed = parse_network(skb, &f);
	if (parsed > 0)
		return TC_ACT_UNSPEC;
	if (parsed < 0)
		goto malformed;
	index = bpf_map_lookup_elem(&lease_addresses, f.address);
	if (!index)
		return TC_ACT_UNSPEC;
	at = *index & (SERVICES - 1);
	row = bpf_map_lookup_elem(&lease_rows, &at);
	key = bpf_map_lookup_elem(&lease_key, &zero);
	if (!row || !key)
		return TC_ACT_SHOT;
	if (parse_transport(skb, &f))
		goto malformed;
	h = hash_of_flow(&f, key, row->tag, &lease_fragments);
	if (!h) {
		note(OUTCOME_FRAGMENT);
		return TC_ACT_SHOT;
	}
	slot = choose(row, at, h, bpf_ktime_get_boot_ns(), &path, &how, &opened);
	if (slot < 0) {
		note(how == OUTCOME_EXPIRED ? OUTCOME_EXPIRED : OUTCOME_NO_LEASE);
		return TC_ACT_SHOT;
	}
	if (encapsulate(skb, &path, h, f.tos)) {
		note(OUTCOME_NO_ROOM);
		return TC_ACT_SHOT;
	}
	note(how);
	at = at * SLOTS + (slot & (SLOTS - 1));
	c = bpf_map_lookup_elem(&lease_counts, &at);
	if (c) {
		c->packets++;
		c->bytes += len;
		c->flows += opened;
	}
	return bpf_redirect_neigh(path.link, NULL, 0, 0);

malformed:
	note(OUTCOME_MALFORMED);
	return TC_ACT_SHOT;
}
