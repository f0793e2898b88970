/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Onto the wire: the client's packet, untouched, inside an outer header for its backend. */
#pragma once

#include "credit.h"
#include "reply.h"

static inline bool no_mac(const struct mac *m)
{
	return !(m->w[0] | m->w[1] | m->w[2]);
}

/* The packet does not fit into the path once it is encapsulated. Whoever set DF, and IPv6, is told what fits. */
separate int too_big(struct xdp_md *ctx, const struct query *q, u32 overhead)
{
	struct answer a = {};

	count(REASON_TOO_BIG);
	if (!q || !q->df || q->related || !may_answer(q->now))
		return XDP_DROP;
	__builtin_memcpy(a.to, q->client, sizeof(a.to));
	__builtin_memcpy(a.from, q->local, sizeof(a.from));
	a.family = q->family;
	a.mtu = path_mtu - overhead;
	return send_too_big(ctx, &a);
}

/* Next hop by the kernel's routes and neighbours, for backends whose next hop user space has not set. Without a
 * route or with a neighbour that is not resolved the packet is lost: the kernel drops it, since its destination's MAC
 * is nobody's. User space follows the routes and has the kernel keep the neighbours resolved (balancer/nexthop). */
separate int route(struct xdp_md *ctx, struct backend *b)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct fib_lookup f = {};
	int r;

	if ((void *)(eth + 1) > end || !b)
		return XDP_DROP;
	f.family = b->family == 4 ? AF_INET : AF_INET6;
	f.ifindex = ctx->ingress_ifindex;
	for (int i = 0; i < 4; i++)
		f.dst[i] = b->address[i];
	if (b->family == 4)
		f.src[0] = source4;
	else
		for (int i = 0; i < 4; i++)
			f.src[i] = source6[i];
	r = bpf_fib_lookup(ctx, &f, sizeof(f), 0);
	if (r != FIB_LOOKUP_SUCCESS) {
		count(REASON_NO_ROUTE);
		return XDP_PASS;
	}
	__builtin_memcpy(&eth->dst, f.dmac, 6);
	__builtin_memcpy(&eth->src, f.smac, 6);
	if (f.ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect(f.ifindex, 0);
}

/* Puts the outer headers in front. The frame's own Ethernet header is what VXLAN carries, and is overwritten
 * otherwise. 0 or a reason. */
static inline int encapsulate(struct xdp_md *ctx, const struct query *q, struct backend *b)
{
	u32 overhead = b->overhead, inner = q->len;
	struct ethhdr *eth, *old;
	void *data, *end, *l4;
	struct mac self;
	u32 outer;
	u8 protocol = q->family == 4 ? IP_IPIP : IP_IPV6;
	be16 sport = q->vip_flags & VIP_KEEP_PORT && q->ports && !q->related ? (be16)q->ports : entropy_port((u32)q->hash);

	if (bpf_xdp_adjust_head(ctx, -(int)overhead))
		return REASON_NO_ROOM;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	eth = data;
	opaque(overhead);
	if (overhead > 128)
		return REASON_NO_ROOM;
	old = data + overhead;
	if ((void *)(old + 1) > end)
		return REASON_NO_ROOM;
	self = old->dst;
	outer = inner + overhead;
	if (b->encapsulation != ENCAP_IPIP)
		protocol = IP_UDP;
	if (b->family == 4) {
		struct iphdr *ip = (void *)(eth + 1);
		be32 source = source4;
		u64 sum;

		l4 = ip + 1;
		if (l4 > end)
			return REASON_NO_ROOM;
		if (unlikely(q->vip_flags & VIP_KEEP_SOURCE) && q->family == 4)
			source = q->client[0];
		ip->version_ihl = 0x45;
		ip->tos = q->tos;
		ip->len = htons((u16)outer);
		ip->id = 0;
		ip->frag = q->df ? htons(IP_DF) : 0;
		ip->ttl = OUTER_TTL;
		ip->protocol = protocol;
		ip->saddr = source;
		ip->daddr = b->address[0];
		sum = (u64)b->sum + source + ((u32)q->tos << 8) + htons((u16)outer) + ip->frag + ((u32)protocol << 8);
		ip->check = csum_fold(sum);
	} else {
		struct ip6hdr *ip = (void *)(eth + 1);

		l4 = ip + 1;
		if (l4 > end)
			return REASON_NO_ROOM;
		write_ipv6(ip, source6, b->address, protocol, outer - sizeof(*ip), q->tos, (u32)q->hash);
		if (unlikely(q->vip_flags & VIP_KEEP_SOURCE) && q->family == 6)
			__builtin_memcpy(ip->saddr, q->client, sizeof(ip->saddr));
	}
	if (b->encapsulation == ENCAP_GUE) {
		if (l4 + sizeof(struct udphdr) > end)
			return REASON_NO_ROOM;
		write_udp(l4, sport, gue_port, inner);
	} else if (b->encapsulation == ENCAP_VXLAN) {
		struct udphdr *udp = l4;
		struct vxlanhdr *vxlan = (void *)(udp + 1);

		if ((void *)(vxlan + 1) + sizeof(*old) > end)
			return REASON_NO_ROOM;
		write_udp(udp, sport, vxlan_port, inner + sizeof(*vxlan) + sizeof(*old));
		write_vxlan(vxlan, b->vni);
		old->src = self;
		old->dst = b->inner;
	}
	write_eth(eth, &b->next_hop, &self, htons(b->family == 4 ? ETH_IPV4 : ETH_IPV6));
	return 0;
}

/* Encapsulates, counts and sends. */
separate int forward(struct xdp_md *ctx, const struct query *q)
{
	struct control_block *c = the_control();
	struct backend *b;
	int r;

	if (!c || !q)
		return XDP_DROP;
	b = live_backend(q->backend);
	if (!b)
		r = REASON_NO_BACKEND;
	else if (unlikely(q->len + b->overhead > path_mtu))
		return too_big(ctx, q, b->overhead);
	else
		r = encapsulate(ctx, q, b);
	if (unlikely(r)) {
		count(r);
		capture(ctx, c, q->vip, r);
		return XDP_DROP;
	}
	count_forwarded(bpf_get_smp_processor_id(), q->vip, q->backend, q->len);
	capture(ctx, c, q->vip, REASON_NONE);
	if (unlikely(no_mac(&b->next_hop)))
		return route(ctx, b);
	return XDP_TX;
}
