//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Ingress of the overlay's device: what a host takes from the overlay. For each VNI it knows the lowest epoch that is
 * accepted, so that a sender whose knowledge is older reaches nobody (D4), and whether packets are the host's own or
 * an instance's. A VNI it does not know is left to others. */
#include "ratchet.h"

LICENSE;

enum { DELIVERY_CLOSED = 1 }; /* nothing is accepted */

/* Shared with dataplane/overlay/gate.go. */
struct delivery {
	u16 epoch; /* the lowest accepted; 0: any, also none */
	u16 flags;
	u32 link; /* the instance's; 0: the host's own stack */
};

enum outcome {
	OUTCOME_ACCEPTED = 0,
	OUTCOME_STALE,   /* dropped: an older epoch, or none where one is due */
	OUTCOME_CLOSED,  /* dropped: the VNI is served elsewhere now */
	OUTCOME_UNKNOWN, /* passed: not a VNI of the gate's */
	OUTCOME_COUNT,
};

struct outcomes {
	u64 n[OUTCOME_COUNT];
};

struct {
	__uint(type, MAP_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, MAP_NO_PREALLOC);
	__type(key, u32);
	__type(value, struct delivery);
} overlay_deliveries SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct outcomes);
} overlay_outcomes SEC(".maps");

/* struct bpf_tunnel_key up to its last member that every kernel has. */
struct tunnel_key {
	u32 id;
	u32 remote[4];
	u8 tos;
	u8 ttl;
	u16 unused;
	u32 label;
};

/* struct vxlan_metadata: what the kernel's gbp device says of a packet. */
struct vxlan_metadata {
	u32 gbp;
};

static long (*const bpf_skb_get_tunnel_key)(struct __sk_buff *skb, struct tunnel_key *key, u32 size, u64 flags) = (void *)20;
static long (*const bpf_skb_get_tunnel_opt)(struct __sk_buff *skb, void *opt, u32 size) = (void *)29;

#define TUNNEL_IPV6 1 /* the outer header's family, which the caller must know */

/* Off only in the mutant that shows that the tests would notice. */
const volatile bool check_epoch = true;

static inline int note(enum outcome what, int verdict)
{
	u32 zero = 0;
	struct outcomes *o = bpf_map_lookup_elem(&overlay_outcomes, &zero);

	if (o)
		o->n[what]++;
	return verdict;
}

SEC("tc")
int overlay_ingress(struct __sk_buff *skb)
{
	struct vxlan_metadata meta = {};
	struct tunnel_key key = {};
	struct delivery *d;
	u16 epoch;

	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0) && bpf_skb_get_tunnel_key(skb, &key, sizeof(key), TUNNEL_IPV6))
		return TC_ACT_UNSPEC;
	d = bpf_map_lookup_elem(&overlay_deliveries, &key.id);
	if (!d)
		return note(OUTCOME_UNKNOWN, TC_ACT_UNSPEC);
	if (d->flags & DELIVERY_CLOSED)
		return note(OUTCOME_CLOSED, TC_ACT_SHOT);
	/* Serial numbers (RFC 1982): as dataplane/overlay.Newer. */
	epoch = bpf_skb_get_tunnel_opt(skb, &meta, sizeof(meta)) > 0 ? meta.gbp & 0xffff : 0;
	if (check_epoch && d->epoch && (!epoch || (u16)(epoch - d->epoch) >= 0x8000))
		return note(OUTCOME_STALE, TC_ACT_SHOT);
	note(OUTCOME_ACCEPTED, 0);
	if (d->link)
		return bpf_redirect(d->link, 0);
	return TC_ACT_UNSPEC;
}
