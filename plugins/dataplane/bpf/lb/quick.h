/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The short way: a whole packet without options, of a flow whose entry needs no change, to a VIP that this CPU has seen
 * before. Nearly all packets are of this kind. For a backend that IPIP over IPv4 reaches it writes the outer header by
 * itself; for others, and packets that do not fit, it says what it has found and leaves that to the general way.
 *
 * Whatever is not exactly so is NOT_QUICK and goes the general way from the beginning. So this file may refuse
 * anything, and must decide nothing that the general way would not; TestShortWay compares them.
 *
 * Its cost is the number of its instructions: the processor is busy, not waiting. Hence words where there are fields,
 * and functions of their own for what is rare: they keep registers free here. */
#pragma once

#include "recent.h"
#include "send.h"
#include "state.h"

/* What the short way says if it has no verdict. */
#define NOT_QUICK (1ULL << 62)
#define ONLY_SEND (1ULL << 63) /* all is decided: | VIP and flags as in recent.h << 16 | backend */

/* What is left of a packet's headers once they are found to be in order. */
struct quick_packet {
	u64 line;  /* both halves of the flow's hash; their upper 32 bits count */
	u64 print;
	u32 len; /* of the IP packet */
	u32 key; /* of the VIP, see recent.h */
	u32 state; /* that the flow's entry must have */
	be16 df;
	u8 tos;
	u8 protocol; /* of the outer header */
};

/* A segment in the middle of a connection, or a datagram, behind l3 bytes of IP header. l4 has 20 bytes. */
static inline bool quick_l4(struct quick_packet *p, u8 protocol, const struct tcphdr *l4, u32 l3)
{
	if (likely(protocol == IP_TCP)) {
		u32 header = (l4->off >> 2) & 0x3c;

		p->state = FLOW_ESTABLISHED;
		return header >= sizeof(*l4) && header + l3 <= p->len && (l4->flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK;
	}
	if (protocol == IP_UDP) {
		u32 len = ntohs(((const struct udphdr *)l4)->len);

		p->state = FLOW_BRIEF;
		return len >= sizeof(struct udphdr) && len + l3 <= p->len;
	}
	return false;
}

/* The entry of a print in a line, or any other: the caller compares. It has no branches, which would be guessed wrong for
 * every other flow. */
static inline u64 match(struct flow_line *l, u64 print)
{
	u32 at = 0;

#pragma unroll
	for (int i = 1; i < SLOTS; i++)
		at += (u32)(((PRINT_OF(READ_ONCE(l->entry[i])) ^ print) - 1) >> 63) * i;
	return READ_ONCE(l->entry[at & (SLOTS - 1)]);
}

/* An entry that is not in its home slot: of the first line, or of the other. 0 if there is none. */
separate u64 elsewhere(u32 line, u64 print)
{
	struct flow_line *l = bpf_map_lookup_elem(&flows, &line);
	u64 e;

	if (!l)
		return 0;
	e = match(l, print);
	if (PRINT_OF(e) == print)
		return e;
	line = other_line(line, print);
	l = bpf_map_lookup_elem(&flows, &line);
	if (!l)
		return 0;
	e = match(l, print);
	return PRINT_OF(e) == print ? e : 0;
}

/* The backend of a flow in order, or NULL. */
static inline struct backend *quick_backend(const struct quick_packet *p, struct cpu_local *local, u64 *entry)
{
	u32 at = (u32)(p->line >> 32) & flow_mask, id;
	u64 print = p->print >> 32 << 1 | p->line >> 63, e;
	struct flow_line *l = bpf_map_lookup_elem(&flows, &at);
	struct backend *b;

	if (!l)
		return NULL;
	e = READ_ONCE(l->entry[home_slot(print)]);
	if (unlikely(PRINT_OF(e) != print))
		e = elsewhere(at, print);
	/* As in unchanged(): the state that it stays in, and seen in this unit of time. */
	if ((e >> 16 & (3 | 255 << 7)) != (p->state | current_seen(local) << 7))
		return NULL;
	id = BACKEND_OF(e);
	b = bpf_map_lookup_elem(&backends, &id);
	if (!b || (*(u32 *)&b->family & 0xff0f0000) != (GENERATION_OF(e) << 16 | 1 << 24))
		return NULL;
	*entry = e;
	return b;
}

/* The verdict or one of the above; family is a constant. */
static inline u64 quick_send(struct xdp_md *ctx, struct quick_packet *p, const be32 *address, int family)
{
	struct control_block *c = the_control();
	u32 cpu = bpf_get_smp_processor_id(), outer = p->len + sizeof(struct iphdr), vip, *w, self, type;
	struct cpu_local *local = bpf_map_lookup_elem(&cpu_local, &cpu);
	struct backend *b;
	u64 entry, next_hop, sum;
	void *data;

	if (!c || !local || unlikely(READ_ONCE(c->capture)))
		return NOT_QUICK;
	vip = find_recent(local, address, p->key, READ_ONCE(c->epoch), family);
	if (!vip)
		return NOT_QUICK;
	b = quick_backend(p, local, &entry);
	if (!b)
		return NOT_QUICK;
	next_hop = *(u64 *)&b->next_hop; /* six bytes of it; none: the kernel has the route */
	if (unlikely((*(u32 *)&b->family & 0xffff) != (4 | ENCAP_IPIP << 8) || !(next_hop << 16) || vip >> 16 || outer > path_mtu))
		return ONLY_SEND | (u64)vip << 16 | BACKEND_OF(entry);
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return NOT_QUICK;
	data = (void *)(long)ctx->data;
	w = data + sizeof(struct ethhdr);
	if ((void *)(w + 5) > (void *)(long)ctx->data_end) {
		count(REASON_NO_ROOM);
		return XDP_DROP;
	}
	/* The frame's own destination is our address. Its header has not moved; the next hop brings two bytes too many. */
	self = *(u32 *)(data + sizeof(struct iphdr));
	type = *(u16 *)(data + sizeof(struct iphdr) + 4) | (u32)htons(ETH_IPV4) << 16;
	*(u64 *)data = next_hop;
	*(u32 *)(data + 6) = self;
	*(u32 *)(data + 10) = type;
	w[0] = 0x45 | (u32)p->tos << 8 | (u32)htons((u16)outer) << 16;
	w[1] = (u32)p->df << 16;
	w[3] = source4;
	w[4] = b->address[0];
	sum = (u64)w[0] + w[1] + (OUTER_TTL | (u32)p->protocol << 8) + w[3] + w[4];
	w[2] = OUTER_TTL | (u32)p->protocol << 8 | (u32)csum_fold(sum) << 16;
	count_forwarded(cpu, vip, BACKEND_OF(entry), p->len);
	return XDP_TX;
}

separate u64 quick4(struct xdp_md *ctx)
{
	u64 room = ctx->data_end - ctx->data - sizeof(struct ethhdr);
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *l4 = (void *)(ip + 1);
	struct quick_packet p;
	be32 client, local;
	u32 head, ports;

	if ((void *)(l4 + 1) > (void *)(long)ctx->data_end)
		return NOT_QUICK;
	head = *(u32 *)ip;
	p.len = ntohs((be16)(head >> 16));
	if ((u8)head != 0x45 || p.len > room || ip->frag & htons(IP_MF | IP_OFFSET))
		return NOT_QUICK;
	if (csum_fold(csum_ipv4(ip)))
		return NOT_QUICK;
	client = ip->saddr;
	local = ip->daddr;
	if (client == local || !quick_l4(&p, ip->protocol, l4, sizeof(*ip)))
		return NOT_QUICK;
	p.df = ip->frag & htons(IP_DF);
	p.tos = head >> 8;
	p.protocol = IP_IPIP;
	ports = *(u32 *)l4;
	p.key = recent_key(4, ip->protocol, (be16)(ports >> 16));
	p.line = tuple_line(tuple_sum(hash_key.line, &client, &local, ports, ip->protocol, 1));
	opaque(p.line); /* first the one, then the other: the words of both keys together do not fit into registers */
	p.print = tuple_sum(hash_key.print, &client, &local, ports, ip->protocol, 1);
	opaque(p.print);
	return quick_send(ctx, &p, &local, 4);
}

separate u64 quick6(struct xdp_md *ctx)
{
	u64 room = ctx->data_end - ctx->data - sizeof(struct ethhdr);
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct ip6hdr *ip = (void *)(eth + 1);
	struct tcphdr *l4 = (void *)(ip + 1);
	struct quick_packet p;
	u32 head, ports;

	if ((void *)(l4 + 1) > (void *)(long)ctx->data_end)
		return NOT_QUICK;
	head = ntohl(ip->flow);
	p.len = sizeof(*ip) + ntohs(ip->len);
	if (head >> 28 != 6 || p.len > room)
		return NOT_QUICK;
	if (ip->saddr[3] == ip->daddr[3] && ip->saddr[2] == ip->daddr[2]) /* perhaps the VIP itself */
		return NOT_QUICK;
	if (!quick_l4(&p, ip->next, l4, sizeof(*ip)))
		return NOT_QUICK;
	p.df = htons(IP_DF);
	p.tos = head >> 20;
	p.protocol = IP_IPV6;
	ports = *(u32 *)l4;
	p.key = recent_key(6, ip->next, (be16)(ports >> 16));
	p.line = tuple_line(tuple_sum(hash_key.line, ip->saddr, ip->daddr, ports, ip->next, 4));
	opaque(p.line);
	p.print = tuple_sum(hash_key.print, ip->saddr, ip->daddr, ports, ip->next, 4);
	opaque(p.print);
	return quick_send(ctx, &p, ip->daddr, 6);
}

static inline u64 quick(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return NOT_QUICK;
	if (likely(eth->type == htons(ETH_IPV4)))
		return quick4(ctx);
	if (eth->type == htons(ETH_IPV6))
		return quick6(ctx);
	return NOT_QUICK;
}
