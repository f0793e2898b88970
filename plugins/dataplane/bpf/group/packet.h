/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* From a packet to its flow and the flow's hash. */
#pragma once

#include "maps.h"

struct flow {
	be32 source[4];
	be32 group[4];
	u32 ports; /* as they stand in the packet */
	u32 id;    /* of its fragments */
	u32 end;   /* offset, as the IP header says */
	u16 l4;    /* offset */
	u8 family;
	u8 protocol;
	u8 fragment;
	u8 tcp;  /* flags */
	u8 data; /* TCP: not only a header */
	u8 tos;
};

static inline bool is_icmp_error(u8 family, u8 type)
{
	if (family == 4)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

/* The flow that an ICMP error of the client is about: the packet in it is one of the group's to the client. */
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

/* 1: not IP, 0, or -1: malformed. The transport comes later: most of what passes here may not be a group's. Offsets go
 * through bpf_skb_load_bytes, because a large packet's headers need not be in the linear part. */
static inline int parse_network(struct __sk_buff *skb, struct flow *f)
{
	u32 at = sizeof(struct ethhdr);

	if (skb->protocol == htons(ETH_IPV4)) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || (ip.version_ihl & 0xf0) != 0x40 || (ip.version_ihl & 15) < 5)
			return -1;
		f->family = 4;
		f->source[0] = ip.saddr;
		f->group[2] = htonl(0xffff);
		f->group[3] = ip.daddr;
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
		__builtin_memcpy(f->group, ip.daddr, sizeof(f->group));
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

/* Neighbouring ports make an arithmetic progression, which a sum of products maps to another one: with an unlucky key
 * to few lines. This takes one word to one other (MurmurHash3's finalizer). */
static inline u64 mix(u64 h)
{
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdULL;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ULL;
	return h ^ h >> 33;
}

/* The flow's hash: its fingerprint above, its place in table and ring below. 0: a fragment nobody knows. */
static inline u64 hash_of(struct flow *f, u32 tag)
{
	struct fragment_key key = {};
	struct hash_key *k;
	u64 *known, h;
	u32 zero = 0;

	k = bpf_map_lookup_elem(&group_key, &zero);
	if (!k)
		return 0;
	if (f->fragment) {
		__builtin_memcpy(key.source, f->source, sizeof(key.source));
		__builtin_memcpy(key.group, f->group, sizeof(key.group));
		key.id = f->id;
		key.protocol = f->protocol;
	}
	if (f->fragment == FRAG_LATER) {
		known = bpf_map_lookup_elem(&group_fragments, &key);
		return known ? *known : 0;
	}
	h = mix(flow_hash6(k, f->source, f->ports, tag << 8 | f->protocol));
	if (f->fragment == FRAG_FIRST)
		bpf_map_update_elem(&group_fragments, &key, &h, UPDATE_ANY);
	return h;
}
