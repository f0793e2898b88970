//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* On a backend: takes the balancer's outer headers off and hands the client's packet, as the client sent it, to the
 * kernel, which has the VIP on its loopback and answers the client directly.
 *
 * What is a tunnel's but not in order is dropped and counted; everything else is not ours and passes untouched. */
#include "ratchet.h"
#include "parse.h"

LICENSE;

const volatile be16 gue_port = 0;
const volatile be16 vxlan_port = 0;
const volatile bool check_sources = false;
const volatile bool check_destinations = false;

struct prefix {
	u32 bits; /* 96 more for IPv4, which stands as ::ffff:a.b.c.d */
	be32 address[4];
};

/* Balancers whose tunnels are accepted. */
struct {
	__uint(type, MAP_LPM_TRIE);
	__uint(map_flags, MAP_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct prefix);
	__type(value, u32);
} sources SEC(".maps");

/* Inner destinations that are accepted: the VIPs of this host. */
struct {
	__uint(type, MAP_LPM_TRIE);
	__uint(map_flags, MAP_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct prefix);
	__type(value, u32);
} destinations SEC(".maps");

struct counter {
	u64 packets;
	u64 bytes;
};

/* By reason; REASON_NONE counts what was handed on. */
struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, struct counter);
} counters SEC(".maps");

static inline void count(u32 reason, u64 bytes)
{
	struct counter *c = bpf_map_lookup_elem(&counters, &reason);

	if (c) {
		c->packets++;
		c->bytes += bytes;
	}
}

static inline void prefix4(struct prefix *p, be32 address)
{
	p->bits = 128;
	p->address[0] = 0;
	p->address[1] = 0;
	p->address[2] = htonl(0xffff);
	p->address[3] = address;
}

static inline void prefix6(struct prefix *p, const be32 *address)
{
	p->bits = 128;
	for (int i = 0; i < 4; i++)
		p->address[i] = address[i];
}

/* What is known of a tunnelled packet. */
struct tunnelled {
	u32 inner;    /* offset of the inner IP header */
	u32 left;     /* bytes from there to the end of the outer packet */
	u8 family;    /* of the inner packet, as the outer one says; 0: look */
	u8 congested; /* the outer header carries CE */
};

/* Sets CE on the inner packet if it can carry it (RFC 6040); one that cannot is dropped. */
static inline int mark4(struct iphdr *ip)
{
	u32 sum;

	if (!(ip->tos & 3))
		return REASON_BAD_OUTER;
	sum = (u16)~ip->check + (u16)~*(u16 *)ip;
	ip->tos |= 3;
	sum += *(u16 *)ip;
	ip->check = csum_fold(sum);
	return 0;
}

/* The inner packet, in order and for us. Its Ethernet type, or a negative reason. */
static inline int check_inner(struct xdp_md *ctx, const struct tunnelled *t)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *inner;
	struct prefix to;
	u64 at = t->inner;
	int type, r = 0;

	opaque(at);
	if (at > 256)
		return -REASON_BAD_TUNNEL;
	inner = data + at;
	if (inner + sizeof(struct iphdr) > end || t->left < sizeof(struct iphdr))
		return -REASON_TRUNCATED;
	switch (*(u8 *)inner >> 4) {
	case 4: {
		struct iphdr *ip = inner;
		u32 header = (ip->version_ihl & 15) * 4, len = ntohs(ip->len);

		if (t->family == 6 || header < sizeof(*ip) || len < header || len > t->left)
			return -REASON_BAD_INNER;
		if (header == sizeof(*ip) ? csum_fold(csum_ipv4(ip)) : checksum_options(ctx, at, header))
			return -REASON_BAD_CHECKSUM;
		if (t->congested)
			r = mark4(ip);
		prefix4(&to, ip->daddr);
		type = ETH_IPV4;
		break;
	}
	case 6: {
		struct ip6hdr *ip = inner;

		if (inner + sizeof(*ip) > end || t->left < sizeof(*ip))
			return -REASON_TRUNCATED;
		if (t->family == 4 || sizeof(*ip) + ntohs(ip->len) > t->left)
			return -REASON_BAD_INNER;
		if (t->congested && !(ip->flow & htonl(3 << 20)))
			r = REASON_BAD_OUTER;
		else if (t->congested)
			ip->flow |= htonl(3 << 20);
		prefix6(&to, ip->daddr);
		type = ETH_IPV6;
		break;
	}
	default:
		return -REASON_BAD_INNER;
	}
	if (!r && check_destinations && !bpf_map_lookup_elem(&destinations, &to))
		r = REASON_BAD_INNER;
	return r ? -r : type;
}

/* What follows the outer IP header. 0: not a tunnel of ours; 1: one; or a negative reason. */
static inline int find_inner(const struct packet *p, struct tunnelled *t)
{
	u64 at = p->l4;
	struct vxlanhdr *vxlan;
	struct udphdr *udp;
	struct ethhdr *eth;

	opaque(at);
	if (at > 14 + 60)
		return 0;
	udp = p->data + at;
	vxlan = (void *)(udp + 1);
	eth = (void *)(vxlan + 1);
	t->inner = p->l4;
	t->left = p->l3 + p->len - p->l4;
	if (p->protocol == IP_IPIP || p->protocol == IP_IPV6) {
		t->family = p->protocol == IP_IPIP ? 4 : 6;
		return 1;
	}
	if (p->protocol != IP_UDP || (void *)(udp + 1) > p->end)
		return 0;
	if (udp->dport != gue_port && udp->dport != vxlan_port)
		return 0;
	if (ntohs(udp->len) != t->left)
		return -REASON_BAD_TUNNEL;
	t->inner += sizeof(*udp);
	t->left -= sizeof(*udp);
	if (udp->dport == gue_port)
		return 1; /* variant 1: the packet follows at once; check_inner looks at its version */
	if ((void *)(eth + 1) > p->end || t->left < sizeof(*vxlan) + sizeof(*eth))
		return -REASON_TRUNCATED;
	if (!(vxlan->flags & htonl(VXLAN_VALID)))
		return -REASON_BAD_TUNNEL;
	t->family = eth->type == htons(ETH_IPV4) ? 4 : eth->type == htons(ETH_IPV6) ? 6 : 0;
	if (!t->family)
		return -REASON_BAD_INNER;
	t->inner += sizeof(*vxlan) + sizeof(*eth);
	t->left -= sizeof(*vxlan) + sizeof(*eth);
	return 1;
}

static inline bool known_source(const struct packet *p)
{
	struct prefix from;
	struct iphdr *ip = p->data + p->l3;
	struct ip6hdr *ip6 = p->data + p->l3;

	if (p->family == 4)
		prefix4(&from, ip->saddr);
	else if ((void *)(ip6 + 1) <= p->end)
		prefix6(&from, ip6->saddr);
	else
		return false;
	return bpf_map_lookup_elem(&sources, &from) != NULL;
}

SEC("xdp")
int decapsulate(struct xdp_md *ctx)
{
	struct tunnelled t = {};
	struct packet p = {};
	struct ethhdr *eth;
	struct mac dst, src;
	int r;

	/* What is malformed on the outside is the kernel's to drop: perhaps it is not for us at all. Extension
	 * headers and fragments are nothing that our balancer sends. */
	if (parse_frame(&p, ctx) || p.fragment || (p.family == 6 && p.l4 != p.l3 + sizeof(struct ip6hdr)))
		return XDP_PASS;
	r = find_inner(&p, &t);
	if (!r)
		return XDP_PASS;
	if (r > 0 && check_sources && !known_source(&p))
		r = -REASON_BAD_SOURCE;
	t.congested = (p.tos & 3) == 3;
	if (r > 0)
		r = check_inner(ctx, &t);
	if (r < 0) {
		count(-r, p.len);
		return XDP_DROP;
	}
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	dst = eth->dst;
	src = eth->src;
	if (bpf_xdp_adjust_head(ctx, (int)(t.inner - sizeof(*eth)))) {
		count(REASON_NO_ROOM, p.len);
		return XDP_DROP;
	}
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	write_eth(eth, &dst, &src, htons((u16)r));
	count(REASON_NONE, t.left);
	return XDP_PASS;
}
