//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Egress of the overlay's device on a client's host: spreads the traffic to a group's address over its members.
 *
 * What decides about a packet – ring, members, version – is one half of the group's row. User space fills the half
 * that is not in use and then stores the row's word, which names the other one: a packet sees the old membership or
 * the new one and never parts of both. It looks at the word again after it has taken what it needs (D3).
 *
 * A flow stays with its member while that may be used, whatever happens to the others: its entry holds the member's
 * slot and generation. A member whose generation has moved on has no flows any more, without anybody looking for
 * their entries. Entries are 8 bytes in lines of 64, written by compare-and-swap; only empty, idle and half-open ones
 * give way (D2).
 *
 * The membership is only good until the lease's end, on the clock that also runs while the machine sleeps. */
#include "ratchet.h"

LICENSE;

#define MEMBERS 256
#define RING 4096
#define LINE 8

enum { POLICY_CLOSED = 0, POLICY_OPEN };
enum { NO_MEMBER = 0xffff };

/* Shared with group/datapath.go. */
struct member {
	be32 underlay[4]; /* IPv4 in the first word */
	be32 source[4];
	u32 vni;
	u32 link;
	u32 generation; /* the control plane's; what flows are bound to is bound */
	u16 bound;
	u16 epoch;
	struct mac mac;
	u8 family; /* 0: nobody; 4 or 6 */
	u8 usable; /* for flows that it has; new ones come by the ring */
};

struct half {
	u64 version;
	struct member members[MEMBERS];
	u16 ring[RING];
};

struct row {
	u64 word; /* version << 1 | half; 0: no membership yet */
	u32 tag;  /* the group's id */
	u32 policy;
	u64 unused[6];
};

struct lease {
	u64 until; /* CLOCK_BOOTTIME, ns */
	u64 unused[7];
};

struct line {
	u64 entry[LINE];
};

/* An entry: fingerprint 32, slot 8, bound 12, established 1, stamp 10, present 1. */
#define BOUND_MASK 0xfff
#define ESTABLISHED (1ULL << 52)
#define STAMP_MASK 0x3ff
#define PRESENT (1ULL << 63)
#define STAMP_SHIFT 33 /* of nanoseconds: 8.6 s */
#define IDLE 420       /* stamps, about an hour */

struct count {
	u64 packets;
	u64 bytes;
	u64 flows;
};

/* What became of packets that were not simply sent to the member of their flow. */
enum outcome {
	OUTCOME_SENT = 0,
	OUTCOME_UNCONFIRMED,        /* dropped: the lease has run out */
	OUTCOME_UNCONFIRMED_PASSED, /* sent on the last membership, as the group's policy says */
	OUTCOME_NO_MEMBER,          /* dropped: nobody serves */
	OUTCOME_MALFORMED,          /* dropped */
	OUTCOME_FRAGMENT,           /* dropped: the first fragment has not passed here */
	OUTCOME_NO_ROOM,            /* dropped: the kernel refused room for the outer headers */
	OUTCOME_UNSETTLED,          /* dropped: the membership changed at each look */
	OUTCOME_REBOUND,            /* sent: the flow's member has gone, it got another */
	OUTCOME_UNCACHED,           /* sent by the ring: no entry was free */
	OUTCOME_COUNT,
};

struct outcomes {
	u64 n[OUTCOME_COUNT];
};

struct fragment_key {
	be32 source[4];
	be32 group[4];
	u32 id;
	u32 protocol;
};

struct {
	__uint(type, MAP_HASH);
	__uint(max_entries, 512);
	__uint(map_flags, MAP_NO_PREALLOC);
	__type(key, be32[4]);
	__type(value, u32);
} group_addresses SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 64);
	__uint(map_flags, MAP_MMAPABLE);
	__type(key, u32);
	__type(value, struct row);
} group_rows SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 128);
	__uint(map_flags, MAP_MMAPABLE);
	__type(key, u32);
	__type(value, struct half);
} group_halves SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, MAP_MMAPABLE);
	__type(key, u32);
	__type(value, struct lease);
} group_lease SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hash_key);
} group_key SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct line);
} group_flows SEC(".maps");

struct {
	__uint(type, MAP_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, u64);
} group_fragments SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, 64 * MEMBERS);
	__type(key, u32);
	__type(value, struct count);
} group_counts SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct outcomes);
} group_outcomes SEC(".maps");

const volatile u32 line_mask = 8191; /* lines of group_flows less one */

struct flow {
	be32 source[4];
	be32 group[4];
	u32 ports; /* as they stand in the packet */
	u32 id;    /* of its fragments */
	u16 l4;    /* offset */
	u8 family;
	u8 protocol;
	u8 fragment;
	u8 tcp; /* flags */
	u8 tos;
};

static inline void note(u32 what)
{
	u32 zero = 0;
	struct outcomes *o = bpf_map_lookup_elem(&group_outcomes, &zero);

	if (o && what < OUTCOME_COUNT)
		o->n[what]++;
}

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

	if (f->fragment == FRAG_LATER)
		return 0;
	if (f->protocol == IP_TCP) {
		struct tcphdr tcp;

		if (bpf_skb_load_bytes(skb, f->l4, &tcp, sizeof(tcp)))
			return -1;
		f->ports = (u32)tcp.sport | (u32)tcp.dport << 16;
		f->tcp = tcp.flags;
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

static inline u64 make_entry(u64 h, u32 slot, u32 bound, u32 stamp, u64 established)
{
	return h >> 32 | (u64)(slot & 0xff) << 32 | (u64)(bound & BOUND_MASK) << 40 | established | (u64)(stamp & STAMP_MASK) << 53 | PRESENT;
}

static inline struct line *line_at(u32 i)
{
	i &= line_mask;
	return bpf_map_lookup_elem(&group_flows, &i);
}

/* The functions that are not inline are verified once, by themselves, whatever their callers know. */

/* The flow's entry in a line, or -1. */
noinline int flow_find(u32 line, u32 print)
{
	struct line *l = line_at(line);

	if (!l)
		return -1;
#pragma unroll
	for (int i = 0; i < LINE; i++) {
		u64 e = READ_ONCE(l->entry[i]);

		if ((u32)e == print && e & PRESENT)
			return i;
	}
	return -1;
}

/* The entry of a line that gives way first: its rank (3 empty, 2 idle, 1 half-open, 0 none does) from bit 8, how many
 * are empty from bit 3, its index. Of two lines the greater one is taken, which keeps both equally full. */
noinline u32 flow_victim(u32 line, u32 stamp)
{
	struct line *l = line_at(line);
	u32 best = 0, empty = 0;

	if (!l)
		return 0;
#pragma unroll
	for (int i = 0; i < LINE; i++) {
		u64 e = READ_ONCE(l->entry[i]);
		u32 rank = !(e & ESTABLISHED);

		if (((stamp - (u32)(e >> 53)) & STAMP_MASK) > IDLE)
			rank = 2;
		if (!(e & PRESENT))
			rank = 3;
		empty += rank == 3;
		if (rank > best >> 8)
			best = rank << 8 | i;
	}
	return best | empty << 3;
}

/* What was decided about a packet. */
struct decision {
	struct member member;
	u32 slot;
	u32 opened; /* 1: the flow was bound to the member now */
	u32 outcome;
	u32 unused;
};

/* The member of the flow under this membership: its slot, or NO_MEMBER. */
static inline u32 pick(struct half *half, const struct flow *f, u64 h, u64 now, struct decision *d)
{
	bool opens = f->protocol != IP_TCP || (f->tcp & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	bool ends = f->protocol == IP_TCP && f->tcp & (TCP_FIN | TCP_RST);
	u32 stamp = now >> STAMP_SHIFT & STAMP_MASK, print = h >> 32, slot;
	/* Two lines may hold the flow: the second is the first's place turned by the fingerprint. */
	u32 first = h, second = (u32)h ^ (print * 0x9e3779b1), line = first, best, other;
	u64 established = ends ? 0 : ESTABLISHED, e, fresh;
	struct line *l;
	int i;

	i = flow_find(first, print);
	if (i < 0) {
		line = second;
		i = flow_find(second, print);
	}
	if (likely(i >= 0)) {
		l = line_at(line);
		if (!l)
			return NO_MEMBER;
		i &= LINE - 1;
		e = READ_ONCE(l->entry[i]);
		slot = e >> 32 & 0xff;
		struct member *m = &half->members[slot];
		if (f->protocol == IP_TCP && f->tcp & TCP_SYN)
			established = e & ESTABLISHED; /* a repeated or forged SYN changes nothing */
		if (likely(m->usable && (m->bound & BOUND_MASK) == (e >> 40 & BOUND_MASK))) {
			fresh = make_entry(h, slot, m->bound, stamp, established);
			if (fresh != e)
				__sync_val_compare_and_swap(&l->entry[i], e, fresh);
			return slot;
		}
		d->outcome = OUTCOME_REBOUND;
	} else {
		best = flow_victim(first, stamp);
		other = flow_victim(second, stamp);
		line = first;
		if (other >> 3 > best >> 3) {
			best = other;
			line = second;
		}
		l = line_at(line);
		if (!l)
			return NO_MEMBER;
		/* Packets in the middle of a connection that nobody knows take room, never somebody's place. */
		if (best >> 8 == 0 || (best >> 8 == 1 && !opens))
			l = NULL;
		i = best & (LINE - 1);
		if (opens)
			established = 0;
	}
	slot = half->ring[(u32)h >> 20 & (RING - 1)];
	if (slot >= MEMBERS)
		return NO_MEMBER;
	d->opened = 1;
	if (!l) {
		d->outcome = OUTCOME_UNCACHED;
		return slot;
	}
	e = READ_ONCE(l->entry[i]);
	fresh = make_entry(h, slot, half->members[slot].bound, stamp, established);
	if (__sync_val_compare_and_swap(&l->entry[i], e, fresh) != e)
		d->outcome = OUTCOME_UNCACHED; /* another CPU was faster; the next packet tries again */
	return slot;
}

/* Takes the member out of whichever half is in use, whole: 0, or the outcome that ends the packet. */
noinline int choose(u32 index, const struct flow *f, u64 h, u64 now, struct decision *d)
{
	struct row *row = bpf_map_lookup_elem(&group_rows, &index);

	if (!row || !f || !d)
		return OUTCOME_NO_MEMBER;
	for (int i = 0; i < 3; i++) {
		u64 word = READ_ONCE(row->word);
		u32 at = index * 2 + (word & 1), slot;
		struct half *half;

		half = bpf_map_lookup_elem(&group_halves, &at);
		if (!word || !half)
			return OUTCOME_NO_MEMBER;
		slot = pick(half, f, h, now, d);
		if (slot < MEMBERS)
			d->member = half->members[slot];
		barrier();
		if (likely(READ_ONCE(row->word) == word)) {
			d->slot = slot;
			return slot < MEMBERS && d->member.family ? 0 : OUTCOME_NO_MEMBER;
		}
	}
	return OUTCOME_UNSETTLED;
}

static inline int encapsulate(struct __sk_buff *skb, const struct member *m, u64 h, u8 tos)
{
	u32 outer = m->family == 4 ? sizeof(struct iphdr) : sizeof(struct ip6hdr);
	u32 room = outer + sizeof(struct udphdr) + sizeof(struct vxlanhdr) + sizeof(struct ethhdr);
	u64 flags = ADJ_ROOM_FIXED_GSO | ADJ_ROOM_ENCAP_L4_UDP | ADJ_ROOM_ENCAP_L2_ETH | ADJ_ROOM_ENCAP_L2(sizeof(struct ethhdr)) |
		    (m->family == 4 ? ADJ_ROOM_ENCAP_L3_IPV4 : ADJ_ROOM_ENCAP_L3_IPV6);
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
	if (m->family == 4) {
		struct iphdr *ip = (void *)(eth + 1);

		udp = (void *)(ip + 1);
		if ((void *)udp + sizeof(*udp) + sizeof(*vxlan) + sizeof(*inner) > end)
			return -1;
		write_ipv4(ip, m->source[0], m->underlay[0], IP_UDP, skb->len - sizeof(*eth) - sizeof(*ip), tos, true);
		eth->type = htons(ETH_IPV4);
	} else {
		struct ip6hdr *ip = (void *)(eth + 1);

		udp = (void *)(ip + 1);
		if ((void *)udp + sizeof(*udp) + sizeof(*vxlan) + sizeof(*inner) > end)
			return -1;
		write_ipv6(ip, m->source, m->underlay, IP_UDP, skb->len - sizeof(*eth) - sizeof(*ip), tos, h);
		eth->type = htons(ETH_IPV6);
	}
	write_udp(udp, entropy_port(h), htons(VXLAN_PORT), skb->len - sizeof(*eth) - outer - sizeof(*udp));
	vxlan = (void *)(udp + 1);
	write_vxlan(vxlan, m->vni);
	if (m->epoch) /* VXLAN-GBP: see overlay/doc.go */
		vxlan->flags = htonl(0x88000000 | m->epoch);
	inner = (void *)(vxlan + 1);
	/* All overlay devices have one address, and one drops what seems to come from itself (vxlan_set_mac). */
	from = eth->src;
	from.w[0] ^= htons(0x0400);
	write_eth(inner, &m->mac, &from, type);
	return 0;
}

SEC("tc")
int group_egress(struct __sk_buff *skb)
{
	struct decision d = {};
	struct flow f = {};
	struct lease *lease;
	struct count *c;
	u32 *index, zero = 0, at, len = skb->len;
	struct row *row;
	u64 now, h;
	int r;

	r = parse_network(skb, &f);
	if (r > 0)
		return TC_ACT_UNSPEC;
	if (r < 0)
		goto malformed;
	index = bpf_map_lookup_elem(&group_addresses, f.group);
	if (!index)
		return TC_ACT_UNSPEC;
	at = *index;
	row = bpf_map_lookup_elem(&group_rows, &at);
	lease = bpf_map_lookup_elem(&group_lease, &zero);
	if (!row || !lease)
		return TC_ACT_SHOT;
	now = bpf_ktime_get_boot_ns();
	if (unlikely(now >= READ_ONCE(lease->until))) {
		if (row->policy != POLICY_OPEN) {
			note(OUTCOME_UNCONFIRMED);
			return TC_ACT_SHOT;
		}
		note(OUTCOME_UNCONFIRMED_PASSED);
	}
	if (parse_transport(skb, &f))
		goto malformed;
	h = hash_of(&f, row->tag);
	if (!h) {
		note(OUTCOME_FRAGMENT);
		return TC_ACT_SHOT;
	}
	r = choose(at, &f, h, now, &d);
	if (r) {
		note(r);
		return TC_ACT_SHOT;
	}
	if (encapsulate(skb, &d.member, h, f.tos)) {
		note(OUTCOME_NO_ROOM);
		return TC_ACT_SHOT;
	}
	note(d.outcome);
	at = at * MEMBERS + d.slot;
	c = bpf_map_lookup_elem(&group_counts, &at);
	if (c) {
		c->packets++;
		c->bytes += len;
		c->flows += d.opened;
	}
	return bpf_redirect_neigh(d.member.link, NULL, 0, 0);

malformed:
	note(OUTCOME_MALFORMED);
	return TC_ACT_SHOT;
}
