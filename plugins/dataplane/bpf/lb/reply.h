/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Answers that the balancer gives by itself: a reset where nobody has credit, and "too big" for a packet that
 * its encapsulation makes longer than the path. One short answer to one packet, and not too many a second. */
#pragma once

#include "count.h"
#include "vip.h"

/* Frame of an answer; the arguments of both kinds. */
struct answer {
	be32 to[4];   /* the client */
	be32 from[4]; /* the VIP */
	u32 ports;    /* as in the query */
	be32 ack;
	u32 mtu;
	u32 family;
};

static inline bool may_answer(u64 now)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct reason_counters *r = bpf_map_lookup_elem(&reasons, &cpu);

	if (!r)
		return false;
	if (r->window != now >> 30) {
		r->window = now >> 30;
		r->answers = 0;
	}
	if (r->answers >= reply_limit) {
		r->count[REASON_LIMITED]++;
		return false;
	}
	r->answers++;
	return true;
}

static inline void turn_around(struct ethhdr *eth)
{
	struct mac self = eth->dst;

	eth->dst = eth->src;
	eth->src = self;
}

/* Sum of words 32 bits wide; n is a constant. */
static inline u64 csum_words(const u32 *w, int n)
{
	u64 sum = 0;

	for (int i = 0; i < n; i++)
		sum += w[i];
	return sum;
}

/* Pseudo header of TCP and ICMPv6. Both words are in network order like those of the packet. */
static inline u64 csum_pseudo(const struct answer *a, u32 protocol, u32 len)
{
	int n = a->family == 4 ? 1 : 4;
	u64 sum = htonl(protocol) + (u64)htonl(len);

	for (int i = 0; i < 4; i++)
		if (i < n)
			sum += (u64)a->to[i] + a->from[i];
	return sum;
}

/* Cuts or grows the frame to size. */
static inline int resize(struct xdp_md *ctx, u32 size)
{
	return bpf_xdp_adjust_tail(ctx, (int)size - (int)(ctx->data_end - ctx->data));
}

/* A reset to a SYN, RFC 9293 3.10.7.1: sequence number 0, acknowledging it. */
separate int send_reset(struct xdp_md *ctx, const struct answer *a)
{
	struct tcphdr *tcp;
	struct ethhdr *eth;
	void *end;
	u32 l3;

	if (!a)
		return XDP_DROP;
	l3 = a->family == 4 ? sizeof(struct iphdr) : sizeof(struct ip6hdr);

	if (resize(ctx, sizeof(*eth) + l3 + sizeof(*tcp)))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (a->family == 4) {
		struct iphdr *ip = (void *)(eth + 1);

		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > end)
			return XDP_DROP;
		write_ipv4(ip, a->from[0], a->to[0], IP_TCP, sizeof(*tcp), 0, true);
	} else {
		struct ip6hdr *ip = (void *)(eth + 1);

		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > end)
			return XDP_DROP;
		write_ipv6(ip, a->from, a->to, IP_TCP, sizeof(*tcp), 0, 0);
	}
	tcp->sport = a->ports >> 16;
	tcp->dport = (u16)a->ports;
	tcp->seq = 0;
	tcp->ack = a->ack;
	tcp->off = 5 << 4;
	tcp->flags = TCP_RST | TCP_ACK;
	tcp->window = 0;
	tcp->check = 0;
	tcp->urgent = 0;
	tcp->check = csum_fold(csum_pseudo(a, IP_TCP, sizeof(*tcp)) + csum_words((u32 *)tcp, 5));
	turn_around(eth);
	count(REASON_RESET_SENT);
	return XDP_TX;
}

#define TOO_BIG4 68 /* of the packet that is quoted: the longest header and eight bytes (RFC 792) */
#define TOO_BIG6 80 /* its header and the whole of TCP's; all that fits would be allowed (RFC 4443) */

/* "Fragmentation needed" or "packet too big" with the MTU that is left inside the encapsulation. */
separate int send_too_big(struct xdp_md *ctx, const struct answer *a)
{
	struct ethhdr *eth, *old;
	struct icmphdr *icmp;
	u32 quoted, room;
	void *end;

	if (!a)
		return XDP_DROP;
	quoted = a->family == 4 ? TOO_BIG4 : TOO_BIG6;
	room = (a->family == 4 ? sizeof(struct iphdr) : sizeof(struct ip6hdr)) + sizeof(*icmp);

	if (resize(ctx, sizeof(*eth) + quoted) || bpf_xdp_adjust_head(ctx, -(int)room))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (a->family == 4) {
		struct iphdr *ip = (void *)(eth + 1);

		icmp = (void *)(ip + 1);
		old = (void *)eth + sizeof(*ip) + sizeof(*icmp);
		if ((void *)(icmp + 1) + TOO_BIG4 > end)
			return XDP_DROP;
		*eth = *old;
		write_ipv4(ip, a->from[0], a->to[0], IP_ICMP, sizeof(*icmp) + TOO_BIG4, 0, false);
		*icmp = (struct icmphdr){ .type = 3, .code = 4, .mtu = htons((u16)a->mtu) };
		icmp->check = csum_fold(csum_words((u32 *)icmp, (sizeof(*icmp) + TOO_BIG4) / 4));
	} else {
		struct ip6hdr *ip = (void *)(eth + 1);

		icmp = (void *)(ip + 1);
		old = (void *)eth + sizeof(*ip) + sizeof(*icmp);
		if ((void *)(icmp + 1) + TOO_BIG6 > end)
			return XDP_DROP;
		*eth = *old;
		write_ipv6(ip, a->from, a->to, IP_ICMPV6, sizeof(*icmp) + TOO_BIG6, 0, 0);
		*icmp = (struct icmphdr){ .type = 2, .mtu = htons((u16)a->mtu) };
		icmp->check = csum_fold(csum_pseudo(a, IP_ICMPV6, sizeof(*icmp) + TOO_BIG6) +
					csum_words((u32 *)icmp, (sizeof(*icmp) + TOO_BIG6) / 4));
	}
	turn_around(eth);
	count(REASON_TOO_BIG_SENT);
	return XDP_TX;
}
