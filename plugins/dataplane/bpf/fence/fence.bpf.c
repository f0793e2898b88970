//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The fence of a host's virtual network interfaces (VNIs), invariant D4. A VNI's packets go to and come from
 * the instance that holds it, as long as the host's lease runs. The lease's end is compared with the clock for
 * every packet, so a host whose agent is stopped, dead or cut off stops by itself.
 *
 *   fence_overlay  ingress of the overlay's device: packets the kernel has taken out of VXLAN
 *   fence_segment  ingress of the uplink: plain frames to a VNI's MAC, and who asks for its addresses
 *   fence_out      what instances send: ingress of their ports on the host, egress of a macvtap
 *
 * A VNI is given to an instance, and taken from it, by one store to its row in fence_rows. */
#include "ratchet.h"

static long (*const bpf_skb_get_tunnel_key)(struct __sk_buff *skb, void *key, u32 size, u64 flags) = (void *)20;
static long (*const bpf_skb_get_tunnel_opt)(struct __sk_buff *skb, void *opt, u32 size) = (void *)29;

#define TUNINFO_IPV6 1

/* Up to tunnel_label: a size that every kernel since 4.9 takes. */
struct tunnel_key {
	u32 id;
	u32 remote[4];
	u8 tos;
	u8 ttl;
	u16 flags;
};

enum how {
	HOW_EGRESS = 0, /* veth, tap, a VF's representor: what the link sends reaches the instance */
	HOW_INGRESS,    /* macvtap: what the link receives does */
	HOW_PEER,       /* veth: into the other end's namespace at once */
};

/* One word says who holds a VNI, so that every packet sees one attachment or the other. A move is one store. */
#define HOLD_LINK(hold) ((u32)(hold)) /* the port of the instance that holds it; 0: none on this host */
#define HOLD_EPOCH(hold) ((u16)((hold) >> 32))
#define HOLD_HOW(hold) ((u8)((hold) >> 48))
#define HOLD_PLAIN(hold) ((u8)((hold) >> 56)) /* packets without an epoch are taken */

struct vni {
	u64 hold;
	u64 attachment; /* the epoch in full, for the agent's next process */
	u32 id;         /* a row is given to another VNI when no program can be reading it */
	u32 out;        /* where plain frames of the instance leave; 0: to the host's own stack */
	struct mac mac;
	u16 pad;
};

struct lease {
	u64 until; /* CLOCK_BOOTTIME, ns */
	u64 pad[7];
};

enum outcome {
	OUTCOME_DELIVERED = 0,
	OUTCOME_SENT,
	/* drops */
	OUTCOME_LEASE_OVER,
	OUTCOME_STANDBY,  /* the VNI is known, and not attached to an instance here */
	OUTCOME_STALE,    /* the packet is of an older attachment */
	OUTCOME_AHEAD,    /* of a newer one: this host has missed that it lost the VNI */
	OUTCOME_NO_EPOCH,
	OUTCOME_OTHER_MAC, /* not to the VNI */
	OUTCOME_SPOOFED,   /* not from the VNI */
	OUTCOME_MALFORMED,
	OUTCOME_COUNT,
};

/* Tests break one rule at a time. */
enum mutant { MUTANT_NONE = 0, MUTANT_LEASE = 1, MUTANT_EPOCH = 2 };
const volatile u32 fence_mutant = MUTANT_NONE;

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct lease);
} fence_lease SEC(".maps");

#define VNIS 4096

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, VNIS);
	__type(key, u32);
	__type(value, struct vni);
} fence_rows SEC(".maps");

/* The row of a VNI. */
struct {
	__uint(type, MAP_HASH);
	__uint(map_flags, MAP_NO_PREALLOC);
	__uint(max_entries, VNIS);
	__type(key, u32);
	__type(value, u32);
} fence_vnis SEC(".maps");

/* Ports of instances, those that stand by among them, by interface. */
struct {
	__uint(type, MAP_HASH);
	__uint(map_flags, MAP_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, u32);
} fence_ports SEC(".maps");

struct mac_key {
	struct mac mac;
	u16 pad;
};

struct {
	__uint(type, MAP_HASH);
	__uint(map_flags, MAP_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct mac_key);
	__type(value, u32);
} fence_macs SEC(".maps");

/* IPv4 as ::ffff:a.b.c.d. */
struct address {
	u32 w[4];
};

struct {
	__uint(type, MAP_HASH);
	__uint(map_flags, MAP_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct address);
	__type(value, u32);
} fence_addresses SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, OUTCOME_COUNT);
	__type(key, u32);
	__type(value, u64);
} fence_counts SEC(".maps");

static inline int end(int verdict, u32 outcome)
{
	u64 *n = bpf_map_lookup_elem(&fence_counts, &outcome);

	if (n)
		(*n)++;
	return verdict;
}

static inline bool leased(void)
{
	u32 zero = 0;
	struct lease *l = bpf_map_lookup_elem(&fence_lease, &zero);

	if (fence_mutant == MUTANT_LEASE)
		return true;
	return l && bpf_ktime_get_boot_ns() < READ_ONCE(l->until);
}

static inline bool same(const struct mac *a, const struct mac *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2];
}

static inline struct vni *row_of(const u32 *id)
{
	u32 *at = bpf_map_lookup_elem(&fence_vnis, id);

	return at ? bpf_map_lookup_elem(&fence_rows, at) : NULL;
}

/* To the instance that holds the VNI. peer: the hook is one from which another namespace can be entered. */
static inline int deliver(u64 hold, bool peer)
{
	u32 link = HOLD_LINK(hold);

	if (!link)
		return end(TC_ACT_SHOT, OUTCOME_STANDBY);
	if (!leased())
		return end(TC_ACT_SHOT, OUTCOME_LEASE_OVER);
	end(0, OUTCOME_DELIVERED);
	if (peer && HOLD_HOW(hold) == HOW_PEER)
		return bpf_redirect_peer(link, 0);
	return bpf_redirect(link, HOLD_HOW(hold) == HOW_INGRESS ? BPF_F_INGRESS : 0);
}

SEC("tc")
int fence_overlay(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *limit = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct tunnel_key key;
	struct vni *v;
	u32 group = 0;
	u16 ahead;
	u64 hold;

	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) && bpf_skb_get_tunnel_key(skb, &key, sizeof(key), TUNINFO_IPV6))
		return TC_ACT_UNSPEC;
	v = row_of(&key.id);
	if (!v)
		return TC_ACT_UNSPEC;
	if ((void *)(eth + 1) > limit)
		return end(TC_ACT_SHOT, OUTCOME_MALFORMED);
	/* Multicast is for everyone on the VNI. */
	if (!(eth->dst.w[0] & 1) && !same(&eth->dst, &v->mac))
		return end(TC_ACT_SHOT, OUTCOME_OTHER_MAC);
	hold = READ_ONCE(v->hold);
	if (fence_mutant != MUTANT_EPOCH) {
		if (bpf_skb_get_tunnel_opt(skb, &group, sizeof(group)) < 0)
			group = 0;
		group &= 0xffff;
		ahead = (u16)group - HOLD_EPOCH(hold); /* serial numbers, RFC 1982 */
		if (!group && !HOLD_PLAIN(hold))
			return end(TC_ACT_SHOT, OUTCOME_NO_EPOCH);
		if (group && ahead >= 0x8000)
			return end(TC_ACT_SHOT, OUTCOME_STALE);
		if (group && ahead)
			return end(TC_ACT_SHOT, OUTCOME_AHEAD);
	}
	return deliver(hold, true);
}

/* The VNI that an ARP request or a neighbour solicitation asks for, if it is known here. */
static inline struct vni *asked_for(struct __sk_buff *skb)
{
	struct address a = {};
	u16 type;
	u8 b[2];
	u32 *id;

	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, type), &type, sizeof(type)))
		return NULL;
	if (type == htons(ETH_ARP)) {
		if (bpf_skb_load_bytes(skb, 14 + 24, &a.w[3], 4))
			return NULL;
		a.w[2] = htonl(0xffff);
	} else if (type == htons(ETH_IPV6)) {
		if (bpf_skb_load_bytes(skb, 14 + 6, b, 1) || b[0] != IP_ICMPV6)
			return NULL;
		if (bpf_skb_load_bytes(skb, 14 + 40, b, 1) || b[0] != 135)
			return NULL;
		if (bpf_skb_load_bytes(skb, 14 + 40 + 8, &a, sizeof(a)))
			return NULL;
	} else {
		return NULL;
	}
	id = bpf_map_lookup_elem(&fence_addresses, &a);
	return id ? row_of(id) : NULL;
}

/* The VNI that a frame on the segment is for. */
static inline struct vni *addressed(struct __sk_buff *skb)
{
	struct mac_key to = {};
	u32 *id;

	if (bpf_skb_load_bytes(skb, 0, &to.mac, sizeof(to.mac)))
		return NULL;
	if (to.mac.w[0] & 1)
		return asked_for(skb);
	id = bpf_map_lookup_elem(&fence_macs, &to);
	return id ? row_of(id) : NULL;
}

SEC("tc")
int fence_segment(struct __sk_buff *skb)
{
	struct vni *v = addressed(skb);

	if (!v)
		return TC_ACT_UNSPEC;
	return deliver(READ_ONCE(v->hold), true);
}

SEC("tc")
int fence_out(struct __sk_buff *skb)
{
	u32 *id, link = skb->ifindex;
	struct vni *v, *local;
	struct mac from;
	u64 hold, other;

	id = bpf_map_lookup_elem(&fence_ports, &link);
	if (!id)
		return TC_ACT_UNSPEC;
	v = row_of(id);
	if (!v)
		return end(TC_ACT_SHOT, OUTCOME_STANDBY);
	hold = READ_ONCE(v->hold);
	if (HOLD_LINK(hold) != link)
		return end(TC_ACT_SHOT, OUTCOME_STANDBY);
	if (bpf_skb_load_bytes(skb, sizeof(struct mac), &from, sizeof(from)))
		return end(TC_ACT_SHOT, OUTCOME_MALFORMED);
	if (!same(&from, &v->mac))
		return end(TC_ACT_SHOT, OUTCOME_SPOOFED);
	if (!leased())
		return end(TC_ACT_SHOT, OUTCOME_LEASE_OVER);
	end(0, OUTCOME_SENT);
	if (!v->out || HOLD_HOW(hold) == HOW_INGRESS)
		return TC_ACT_UNSPEC;
	local = addressed(skb);
	if (local) {
		other = READ_ONCE(local->hold);
		if (HOLD_LINK(other) && HOLD_LINK(other) != link)
			return deliver(other, false);
	}
	return bpf_redirect(v->out, 0);
}

LICENSE;
