/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the programs on a client's overlay device share: from a packet to its flow, and from a packet to one inside
 * VXLAN, as overlay/doc.go lays it out. */
#pragma once

#include "encap.h"
#include "hash.h"
#include "helpers.h"
#include "net.h"

struct flow {
	be32 source[4];
	be32 address[4]; /* the virtual one; IPv4 as ::ffff:a.b.c.d */
	u32 ports;       /* as they stand in the packet */
	u32 id;          /* of its fragments */
	u32 end;         /* offset, as the IP header says */
	u16 l4;          /* offset */
	u8 family;
	u8 protocol;
	u8 fragment;
	u8 tcp;  /* flags */
	u8 data; /* TCP: not only a header */
	u8 tos;
};

/* Where a packet goes: a host, and an instance on it. */
struct path {
	be32 host[4]; /* IPv4 in the first word */
	be32 source[4];
	u32 vni;
	u32 link;
	struct mac mac; /* inner destination */
	u16 epoch;      /* 0: none */
	u8 family;      /* of the outer header; 0: nowhere */
	u8 unused[7];
};

static inline bool is_icmp_error(u8 family, u8 type)
{
	if (family == 4)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

/* The flow that an ICMP error of the client is about: the packet in it is one of the service's to the client. */
static inline int parse_icmp_error(struct __sk_buff *skb, struct flow *f, u32 at)
{
	u32 l4 = at + sizeof(struct ip6hdr);
	be16 ports[2];

	if (f->family == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
			return -1;
		f->protocol = ip.protocol;
		l4 = at + (ip.version_ihl & 15) * 4;
	} else {
		u8 next;

		if (bpf_skb_load_bytes(skb, at + offsetof(struct ip6hdr, next), &next, 1))
			return -1;
		f->protocol = next;
	}
	if (f->protocol != IP_TCP && f->protocol != IP_UDP)
		return 0;
	if (bpf_skb_load_bytes(skb, l4, ports, sizeof(ports)))
		return -1;
	f->ports = (u32)ports[1] | (u32)ports[0] << 16;
	f->tcp = TCP_ACK; /* never a reason to open a flow */
	return 0;
}

static inline int parse_transport(struct __sk_buff *skb, struct flow *f)
{
	u8 icmp = f->family == 4 ? IP_ICMP : IP_ICMPV6;

	if (f->fragment == FRAG_LATER) {
		f->data = 1;
		return 0;
	}
	if (f->protocol == IP_TCP) {
		struct tcphdr tcp;

		if (bpf_skb_load_bytes(skb, f->l4, &tcp, sizeof(tcp)))
			return -1;
		f->ports = (u32)tcp.sport | (u32)tcp.dport << 16;
		f->tcp = tcp.flags;
		f->data = f->end > f->l4 + (tcp.off >> 4) * 4;
	} else if (f->protocol == IP_UDP) {
		if (bpf_skb_load_bytes(skb, f->l4, &f->ports, 4))
			return -1;
	} else if (f->protocol == icmp) {
		u8 type;

		if (bpf_skb_load_bytes(skb, f->l4, &type, 1))
			return -1;
		if (is_icmp_error(f->family, type))
			return parse_icmp_error(skb, f, f->l4 + 8);
	}
	return 0;
}

/* 1: not IP, 0, or -1: malformed. The transport comes later: most of what passes here may not be for a virtual address.
 * Offsets go through bpf_skb_load_bytes, because a large packet's headers need not be in the linear part. */
static inline int parse_network(struct __sk_buff *skb, struct flow *f)
{
	u32 at = sizeof(struct ethhdr);

	if (skb->protocol == htons(ETH_IPV4)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || (ip.version_ihl & 0xf0) != 0x40 || (ip.version_ihl & 15) < 5)
			return -1;
		f->family = 4;
		f->source[0] = ip.saddr;
		f->address[2] = htonl(0xffff);
		f->address[3] = ip.daddr;
		f->protocol = ip.protocol;
		f->tos = ip.tos;
		f->l4 = at + (ip.version_ihl & 15) * 4;
		f->end = at + ntohs(ip.len);
		if (ip.frag & htons(IP_MF | IP_OFFSET)) {
			f->fragment = ip.frag & htons(IP_OFFSET) ? FRAG_LATER : FRAG_FIRST;
			f->id = ip.id;
		}
		return 0;
	}
	if (skb->protocol == htons(ETH_IPV6)) {
		struct ip6hdr ip;
		struct ip6ext ext;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || (ip.flow & htonl(0xf0000000)) != htonl(0x60000000))
			return -1;
		f->family = 6;
		__builtin_memcpy(f->source, ip.saddr, sizeof(f->source));
		__builtin_memcpy(f->address, ip.daddr, sizeof(f->address));
		f->protocol = ip.next;
		f->tos = ntohl(ip.flow) >> 20;
		f->l4 = at + sizeof(ip);
		f->end = f->l4 + ntohs(ip.len);
		if (ip.next == IP_FRAGMENT) {
			if (bpf_skb_load_bytes(skb, f->l4, &ext, sizeof(ext)))
				return -1;
			f->protocol = ext.next;
			f->l4 += sizeof(ext);
			f->id = ext.id;
			if (ext.frag & htons(0xfff9))
				f->fragment = ext.frag & htons(0xfff8) ? FRAG_LATER : FRAG_FIRST;
		}
		return 0;
	}
	return 1;
}

struct fragment_key {
	be32 source[4];
	be32 address[4];
	u32 id;
	u32 protocol;
};

/* Neighbouring ports make an arithmetic progression, which a sum of products maps to another one: with an unlucky key
 * to few places. This takes one word to one other (MurmurHash3's finalizer). */
static inline u64 mix(u64 h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h ^ h >> 33;
}

/* The hash of a flow's first fragment is remembered for the others, which have no ports. 0: one that nobody knows. */
static inline u64 hash_of_flow(struct flow *f, const struct hash_key *k, u32 tag, void *fragments)
{
	struct fragment_key key = {};
	u64 *known, h;

	if (f->fragment) {
		__builtin_memcpy(key.source, f->source, sizeof(key.source));
		__builtin_memcpy(key.address, f->address, sizeof(key.address));
		key.id = f->id;
		key.protocol = f->protocol;
	}
	if (f->fragment == FRAG_LATER) {
		known = bpf_map_lookup_elem(fragments, &key);
		return known ? *known : 0;
	}
	h = mix(flow_hash(k, f->source, f->ports, tag << 8 | f->protocol));
	if (f->fragment == FRAG_FIRST)
		bpf_map_update_elem(fragments, &key, &h, UPDATE_ANY);
	return h;
}

/* Headers are written into room in front of the IP packet; large packets and checksums to be computed stay so. The
 * outer Ethernet header is the kernel's to fill in (bpf_redirect_neigh). */
static inline int encapsulate(struct __sk_buff *skb, const struct path *p, u64 h, u8 tos)
{
	u32 outer = p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ip6hdr);
	u32 room = outer + sizeof(struct udphdr) + sizeof(struct vxlanhdr) + sizeof(struct ethhdr);
	u64 flags = ADJ_ROOM_FIXED_GSO | ADJ_ROOM_ENCAP_L4_UDP | ADJ_ROOM_ENCAP_L2_ETH | ADJ_ROOM_ENCAP_L2(sizeof(struct ethhdr)) |
		    (p->family == 4 ? ADJ_ROOM_ENCAP_L3_IPV4 : ADJ_ROOM_ENCAP_L3_IPV6);
	struct ethhdr *eth, *inner;
	struct vxlanhdr *vxlan;
	struct udphdr *udp;
	be16 type = skb->protocol;
	struct mac from;
	void *end;

	if (bpf_skb_adjust_room(skb, room, ADJ_ROOM_MAC, flags))
		return -1;
	eth = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (p->family == 4) {
		struct iphdr *ip = (void *)(eth + 1);

		udp = (void *)(ip + 1);
		if ((void *)udp + sizeof(*udp) + sizeof(*vxlan) + sizeof(*inner) > end)
			return -1;
		write_ipv4(ip, p->source[0], p->host[0], IP_UDP, skb->len - sizeof(*eth) - sizeof(*ip), tos, true);
		eth->type = htons(ETH_IPV4);
	} else {
		struct ip6hdr *ip = (void *)(eth + 1);

		udp = (void *)(ip + 1);
		if ((void *)udp + sizeof(*udp) + sizeof(*vxlan) + sizeof(*inner) > end)
			return -1;
		write_ipv6(ip, p->source, p->host, IP_UDP, skb->len - sizeof(*eth) - sizeof(*ip), tos, h);
		eth->type = htons(ETH_IPV6);
	}
	write_udp(udp, entropy_port(h), htons(VXLAN_PORT), skb->len - sizeof(*eth) - outer - sizeof(*udp));
	vxlan = (void *)(udp + 1);
	write_vxlan(vxlan, p->vni);
	if (p->epoch) /* VXLAN-GBP: see overlay/doc.go */
		vxlan->flags = htonl(0x88000000 | p->epoch);
	inner = (void *)(vxlan + 1);
	from = eth->src;
	from.w[2] ^= 0x0100; /* the device's own address as a source is taken for an echo, and dropped, at the other end */
	write_eth(inner, &p->mac, &from, type);
	return 0;
}
