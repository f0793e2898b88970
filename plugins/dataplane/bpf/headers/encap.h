/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Outer headers, written into room that the caller has made (bpf_xdp_adjust_head, bpf_skb_adjust_room,
 * bpf_skb_change_head) and checked. XDP and tc programs share them.
 *
 *   IPIP     RFC 2003, 2473, 4213: all four combinations of families
 *   GUE      variant 1 of draft-ietf-intarea-gue: the IP packet follows UDP without a header of its own
 *   VXLAN    RFC 7348
 * UDP over IPv4 goes without checksum; over IPv6 with zero too, as RFC 6935 allows for tunnels. */
#pragma once

#include "csum.h"
#include "net.h"

#define OUTER_TTL 64
#define GUE_PORT 6080
#define VXLAN_PORT 4789

/* len counts everything behind this header. */
static inline void write_ipv4(struct iphdr *ip, be32 src, be32 dst, u8 protocol, u32 len, u8 tos, bool df)
{
	ip->version_ihl = 0x45;
	ip->tos = tos;
	ip->len = htons((u16)(len + sizeof(*ip)));
	ip->id = 0;
	ip->frag = df ? htons(IP_DF) : 0;
	ip->ttl = OUTER_TTL;
	ip->protocol = protocol;
	ip->check = 0;
	ip->saddr = src;
	ip->daddr = dst;
	ip->check = csum_fold(csum_ipv4(ip));
}

static inline void write_ipv6(struct ip6hdr *ip, const volatile be32 *src, const be32 *dst, u8 next, u32 len, u8 tos, u32 label)
{
	ip->flow = htonl(0x60000000 | (u32)tos << 20 | (label & 0xfffff));
	ip->len = htons((u16)len);
	ip->next = next;
	ip->hops = OUTER_TTL;
	for (int i = 0; i < 4; i++) {
		ip->saddr[i] = src[i];
		ip->daddr[i] = dst[i];
	}
}

/* len counts everything behind this header. */
static inline void write_udp(struct udphdr *udp, be16 sport, be16 dport, u32 len)
{
	udp->sport = sport;
	udp->dport = dport;
	udp->len = htons((u16)(len + sizeof(*udp)));
	udp->check = 0;
}

/* A source port for an outer UDP header: all packets of a flow take one path, flows spread over paths and queues. */
static inline be16 entropy_port(u32 hash)
{
	return htons((u16)(0xc000 | (hash & 0x3fff)));
}

static inline void write_vxlan(struct vxlanhdr *vxlan, u32 vni)
{
	vxlan->flags = htonl(VXLAN_VALID);
	vxlan->vni = htonl(vni << 8);
}

static inline void write_eth(struct ethhdr *eth, const struct mac *dst, const struct mac *src, be16 type)
{
	eth->dst = *dst;
	eth->src = *src;
	eth->type = type;
}
