//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* What the balancer is measured against, and what measures it.
 *
 * BPF_PROG_TEST_RUN with a repetition hands a program its own output. `again` undoes the encapsulation, makes the
 * packet one of the next flow, and tail-calls the program under test: each run is a full one, on a whole packet. */
#include "ratchet.h"
#include "parse.h"

LICENSE;

const volatile u32 frame = 0;  /* length of the client's frame */
const volatile u32 flows = 1;
const volatile u16 first_port = 1024;

struct {
	__uint(type, MAP_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} under_test SEC(".maps");

SEC("xdp")
int again(struct xdp_md *ctx)
{
	u64 length = ctx->data_end - ctx->data;
	struct ethhdr *eth;
	u32 port, *ports;
	void *end;

	opaque(length); /* a difference of pointers is 64 bits wide */
	if (length != frame && bpf_xdp_adjust_head(ctx, (int)length - (int)frame))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if ((void *)(eth + 1) + sizeof(struct iphdr) + 4 > end)
		return XDP_ABORTED;
	eth->dst = (struct mac){ { 0x0002, 0, 0x0100 } };
	eth->src = (struct mac){ { 0x0002, 0, 0x0200 } };
	if ((*(u8 *)(eth + 1) >> 4) == 6) {
		eth->type = htons(ETH_IPV6);
		ports = (void *)(eth + 1) + sizeof(struct ip6hdr);
		if ((void *)(ports + 1) > end)
			return XDP_ABORTED;
	} else {
		eth->type = htons(ETH_IPV4);
		ports = (void *)(eth + 1) + sizeof(struct iphdr);
	}
	/* The flow's number is in the packet itself: nothing else is read or written. */
	port = ntohs((be16)*ports) + 1;
	if (port >= first_port + flows)
		port = first_port;
	*ports = (*ports & 0xffff0000) | htons((u16)port);
	bpf_tail_call(ctx, &under_test, 0);
	return XDP_ABORTED;
}

/* The least that a tunnelling balancer can do. */
SEC("xdp")
int nothing(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)) ? XDP_ABORTED : XDP_TX;
}

#define PEER_BACKENDS 128
#define PEER_RING 65537

struct peer_vip {
	be32 address;
	u32 ring; /* slots */
};

struct {
	__uint(type, MAP_HASH);
	__uint(max_entries, 1024);
	__type(key, u64); /* address << 32 | port << 16 | protocol */
	__type(value, struct peer_vip);
} peer_vips SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, PEER_RING);
	__type(key, u32);
	__type(value, u32);
} peer_ring SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, PEER_BACKENDS);
	__type(key, u32);
	__type(value, be32);
} peer_backends SEC(".maps");

struct peer_flow {
	be32 saddr;
	be32 daddr;
	u32 ports;
	u32 protocol;
};

struct {
	__uint(type, MAP_LRU_HASH);
	__uint(max_entries, 100000);
	__type(key, struct peer_flow);
	__type(value, u32);
} peer_flows SEC(".maps");

static inline u32 peer_hash(const struct peer_flow *f)
{
	u32 h = f->saddr * 0x9e3779b1u ^ f->ports * 0x85ebca6bu ^ f->daddr;

	h ^= h >> 15;
	h *= 0xc2b2ae35u;
	return h ^ h >> 13;
}

/* A balancer of the usual kind, with what every one of them must do and no more. */
static inline int peer(struct xdp_md *ctx, bool stateful)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = (void *)(eth + 1);
	u32 *l4 = (void *)(ip + 1), slot, *backend = NULL;
	struct peer_flow f = {};
	struct peer_vip *v;
	be32 *to;
	u64 key;
	u16 len;

	if ((void *)(l4 + 2) > end || eth->type != htons(ETH_IPV4) || ip->version_ihl != 0x45)
		return XDP_PASS;
	f.saddr = ip->saddr;
	f.daddr = ip->daddr;
	f.ports = *l4;
	f.protocol = ip->protocol;
	len = ntohs(ip->len);
	key = (u64)f.daddr << 32 | (f.ports & 0xffff0000) | f.protocol;
	v = bpf_map_lookup_elem(&peer_vips, &key);
	if (!v)
		return XDP_PASS;
	if (stateful)
		backend = bpf_map_lookup_elem(&peer_flows, &f);
	if (!backend) {
		slot = hash_index(peer_hash(&f), v->ring);
		backend = bpf_map_lookup_elem(&peer_ring, &slot);
		if (!backend)
			return XDP_DROP;
		if (stateful)
			bpf_map_update_elem(&peer_flows, &f, backend, UPDATE_ANY);
	}
	slot = *backend;
	to = bpf_map_lookup_elem(&peer_backends, &slot);
	if (!to || bpf_xdp_adjust_head(ctx, -(int)sizeof(*ip)))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > end)
		return XDP_DROP;
	write_eth(eth, &(struct mac){ { 2, 0, 0x0300 } }, &(struct mac){ { 2, 0, 0x0100 } }, htons(ETH_IPV4));
	write_ipv4(ip, htonl(0x0a000001), *to, IP_IPIP, len, 0, false);
	return XDP_TX;
}

SEC("xdp")
int stateless(struct xdp_md *ctx)
{
	return peer(ctx, false);
}

SEC("xdp")
int lru(struct xdp_md *ctx)
{
	return peer(ctx, true);
}

/* Reads one backend by way of a ring that is swapped as a whole, as an ARRAY_OF_MAPS makes possible. */
struct inner {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, PEER_RING);
	__type(key, u32);
	__type(value, u32);
};

struct {
	__uint(type, MAP_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__uint(value_size, 4);
	struct inner *values[];
} peer_rings SEC(".maps");

SEC("xdp")
int swapped(struct xdp_md *ctx)
{
	u32 zero = 0, slot = 0, *backend;
	void *ring = bpf_map_lookup_elem(&peer_rings, &zero);

	if (!ring)
		return XDP_DROP;
	backend = bpf_map_lookup_elem(ring, &slot);
	return backend && *backend ? XDP_TX : XDP_DROP;
}
