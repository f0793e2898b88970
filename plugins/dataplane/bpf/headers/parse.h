/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* From bytes to what an XDP program decides on. Every length is checked against the frame and against the
 * other lengths before it is believed. */
#pragma once

#include "csum.h"
#include "helpers.h"
#include "net.h"
#include "reason.h"

struct packet {
	void *data;
	void *end;
	u32 l3;  /* offset of the IP header */
	u32 l4;  /* offset of what follows it and its options or extensions */
	u32 len; /* of the IP packet, its header included: the frame may be longer (padding), never shorter */
	u32 id;  /* of a fragmented packet */
	u8 family; /* 4 or 6 */
	u8 protocol;
	u8 fragment;
	u8 tos;
	bool df;
};

/* A length on the wire. Linux 6.1 forgets how large a swapped value can be; the mask says it again, and stays. */
static inline u32 wire_length(be16 length)
{
	u64 host = ntohs(length);

	opaque(host);
	return host & 0xffff;
}

/* Checksum of an IPv4 header of any length: 0 if it is intact. */
separate int checksum_options(struct xdp_md *ctx, u32 l3, u32 header)
{
	u64 sum = 0;

	for (u32 i = 0; i < 60; i += 4) {
		u32 word;

		if (i >= header)
			break;
		if (bpf_xdp_load_bytes(ctx, l3 + i, &word, sizeof(word)))
			return 1;
		sum += word;
	}
	return csum_fold(sum);
}

/* IPv4 at offset l3. 0 or a reason. */
static inline int parse_ipv4(struct packet *p, struct xdp_md *ctx)
{
	struct iphdr *ip = p->data + p->l3;
	u32 header, len, frag;

	if ((void *)(ip + 1) > p->end)
		return REASON_TRUNCATED;
	header = (ip->version_ihl & 15) * 4;
	len = wire_length(ip->len);
	if ((ip->version_ihl & 0xf0) != 0x40 || header < sizeof(*ip) || len < header)
		return REASON_BAD_IP;
	if ((void *)ip + len > p->end)
		return REASON_TRUNCATED;
	if (likely(header == sizeof(*ip)) ? csum_fold(csum_ipv4(ip)) : checksum_options(ctx, p->l3, header))
		return REASON_BAD_CHECKSUM;
	p->family = 4;
	p->protocol = ip->protocol;
	p->tos = ip->tos;
	p->l4 = p->l3 + header;
	p->len = len;
	frag = ip->frag;
	p->df = !!(frag & htons(IP_DF));
	p->fragment = FRAG_NONE;
	if (unlikely(frag & htons(IP_MF | IP_OFFSET))) {
		p->fragment = frag & htons(IP_OFFSET) ? FRAG_LATER : FRAG_FIRST;
		p->id = ip->id;
	}
	return 0;
}

#define IP6_EXTENSIONS 4     /* more in a row is nobody's honest packet */
#define IP6_EXTENSION_BYTES 512

struct extensions {
	u32 l4; /* in: where the first one stands; out: what follows the last */
	u32 end;
	u32 id;
	u32 protocol; /* in and out */
	u32 fragment;
};

/* 0 or a reason. */
separate int skip_extensions(struct xdp_md *ctx, struct extensions *x)
{
	u32 l4, next, limit;

	if (!x)
		return REASON_BAD_EXTENSION;
	l4 = x->l4;
	next = x->protocol;
	limit = l4 + IP6_EXTENSION_BYTES;
	for (int i = 0; i <= IP6_EXTENSIONS; i++) {
		struct ip6ext ext;

		if (next != IP_HOPOPTS && next != IP_DSTOPTS && next != IP_FRAGMENT && next != IP_ROUTING)
			break;
		/* Routing headers of type 0 were withdrawn (RFC 5095); the others are no traffic of a service. */
		if (i == IP6_EXTENSIONS || next == IP_ROUTING)
			return REASON_BAD_EXTENSION;
		if (l4 + sizeof(ext) > x->end || bpf_xdp_load_bytes(ctx, l4, &ext, sizeof(ext)))
			return REASON_TRUNCATED;
		l4 += next == IP_FRAGMENT ? 8 : 8 + ext.len * 8;
		if (next == IP_FRAGMENT && ext.frag & htons(0xfff9)) {
			x->fragment = ext.frag & htons(0xfff8) ? FRAG_LATER : FRAG_FIRST;
			x->id = ext.id;
		}
		next = ext.next;
		if (l4 > x->end)
			return REASON_TRUNCATED;
		if (l4 > limit)
			return REASON_BAD_EXTENSION;
		if (x->fragment == FRAG_LATER)
			break;
	}
	x->protocol = next;
	x->l4 = l4;
	return 0;
}

static inline bool is_extension(u8 next)
{
	return next == IP_HOPOPTS || next == IP_DSTOPTS || next == IP_FRAGMENT || next == IP_ROUTING;
}

/* IPv6 at offset l3, and its extension headers. 0 or a reason. */
static inline int parse_ipv6(struct packet *p, struct xdp_md *ctx)
{
	struct ip6hdr *ip = p->data + p->l3;

	if ((void *)(ip + 1) > p->end)
		return REASON_TRUNCATED;
	if ((ip->flow & htonl(0xf0000000)) != htonl(0x60000000))
		return REASON_BAD_IP;
	p->len = sizeof(*ip) + wire_length(ip->len);
	if ((void *)ip + p->len > p->end)
		return REASON_TRUNCATED;
	p->family = 6;
	p->tos = ntohl(ip->flow) >> 20;
	p->df = true;
	p->fragment = FRAG_NONE;
	p->protocol = ip->next;
	p->l4 = p->l3 + sizeof(*ip);
	if (unlikely(is_extension(p->protocol))) {
		struct extensions x = { .l4 = p->l4, .end = p->l3 + p->len, .protocol = p->protocol };
		int r = skip_extensions(ctx, &x);

		if (r)
			return r;
		p->protocol = x.protocol;
		p->fragment = x.fragment;
		p->id = x.id;
		if (x.l4 > p->l4 + IP6_EXTENSION_BYTES)
			return REASON_BAD_EXTENSION;
		p->l4 = x.l4;
	}
	return 0;
}

/* Ethernet, then IP. 0 or a reason; REASON_PASS_NOT_IP for everything that is not IP, tagged frames among it. */
static inline int parse_frame(struct packet *p, struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	p->data = eth;
	p->end = (void *)(long)ctx->data_end;
	p->l3 = sizeof(*eth);
	if ((void *)(eth + 1) > p->end)
		return REASON_TRUNCATED;
	if (likely(eth->type == htons(ETH_IPV4)))
		return parse_ipv4(p, ctx);
	if (eth->type == htons(ETH_IPV6))
		return parse_ipv6(p, ctx);
	return REASON_PASS_NOT_IP;
}
