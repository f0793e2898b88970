/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* From bytes to what a program decides on. Every length is checked against the frame and against the
 * other lengths before it is believed. */
#pragma once

#include "csum.h"
#include "net.h"
#include "reason.h"

enum fragment { FRAG_NONE = 0, FRAG_FIRST, FRAG_LATER };

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

/* IPv4 at offset l3. 0 or a reason. */
static inline int parse_ipv4(struct packet *p)
{
	struct iphdr *ip = p->data + p->l3;
	u32 header, len, frag;

	if ((void *)(ip + 1) > p->end)
		return REASON_TRUNCATED;
	header = (ip->version_ihl & 15) * 4;
	len = ntohs(ip->len);
	if ((ip->version_ihl & 0xf0) != 0x40 || header < sizeof(*ip) || len < header)
		return REASON_BAD_IP;
	if ((void *)ip + len > p->end)
		return REASON_TRUNCATED;
	u64 sum = csum_ipv4(ip);
	if (unlikely(header > sizeof(*ip))) {
		u32 *option = (void *)(ip + 1);

		for (int i = 0; i < 10; i++, option++) {
			if (20 + 4 * i >= (int)header)
				break;
			if ((void *)(option + 1) > p->end)
				return REASON_TRUNCATED;
			sum += *option;
		}
	}
	if (csum_fold(sum))
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

#define IP6_EXTENSIONS 4 /* more in a row is nobody's honest packet */

/* IPv6 at offset l3, over at most IP6_EXTENSIONS extension headers. 0 or a reason. */
static inline int parse_ipv6(struct packet *p)
{
	struct ip6hdr *ip = p->data + p->l3;
	struct ip6ext *ext;
	u32 l4, end;
	u8 next;

	if ((void *)(ip + 1) > p->end)
		return REASON_TRUNCATED;
	if ((ip->flow & htonl(0xf0000000)) != htonl(0x60000000))
		return REASON_BAD_IP;
	p->len = sizeof(*ip) + ntohs(ip->len);
	if ((void *)ip + p->len > p->end)
		return REASON_TRUNCATED;
	p->family = 6;
	p->tos = ntohl(ip->flow) >> 20;
	p->df = true;
	p->fragment = FRAG_NONE;
	next = ip->next;
	l4 = p->l3 + sizeof(*ip);
	end = p->l3 + p->len;
	for (int i = 0; i <= IP6_EXTENSIONS; i++) {
		if (likely(next == IP_TCP || next == IP_UDP))
			break;
		if (next != IP_HOPOPTS && next != IP_DSTOPTS && next != IP_FRAGMENT && next != IP_ROUTING)
			break;
		/* Routing headers of type 0 were withdrawn (RFC 5095); the others are no traffic of a service. */
		if (i == IP6_EXTENSIONS || next == IP_ROUTING)
			return REASON_BAD_EXTENSION;
		ext = p->data + l4;
		if ((void *)(ext + 1) > p->end || l4 + sizeof(*ext) > end)
			return REASON_TRUNCATED;
		if (next == IP_FRAGMENT) {
			if (ext->frag & htons(0xfff9)) {
				p->fragment = ext->frag & htons(0xfff8) ? FRAG_LATER : FRAG_FIRST;
				p->id = ext->id;
			}
			l4 += sizeof(*ext);
		} else {
			l4 += 8 + ext->len * 8;
		}
		next = ext->next;
		if (l4 > end)
			return REASON_TRUNCATED;
		if (p->fragment == FRAG_LATER)
			break;
	}
	p->protocol = next;
	p->l4 = l4;
	return 0;
}

/* Ethernet, then IP. 0 or a reason; REASON_PASS_NOT_IP for everything that is not IP, tagged frames among it. */
static inline int parse_frame(struct packet *p, void *data, void *end)
{
	struct ethhdr *eth = data;

	p->data = data;
	p->end = end;
	p->l3 = sizeof(*eth);
	if ((void *)(eth + 1) > end)
		return REASON_TRUNCATED;
	if (likely(eth->type == htons(ETH_IPV4)))
		return parse_ipv4(p);
	if (eth->type == htons(ETH_IPV6))
		return parse_ipv6(p);
	return REASON_PASS_NOT_IP;
}
