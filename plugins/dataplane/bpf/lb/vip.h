/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* From a packet's destination to its VIP: one line of hosts, one of port ranges, the VIP's own. */
#pragma once

#include "maps.h"

/* What is known of a packet, whatever it is made of: filled in on its way, read by all. */
struct query {
	be32 client[4];
	be32 local[4];
	u32 ports; /* client's, then ours, as on the wire */
	u8 family;
	u8 protocol;
	u8 flags;     /* of TCP */
	bool related; /* an ICMP error about the flow, not a packet of it */
	bool data;    /* carries payload */
	bool df;
	u8 tos;
	u8 vip_flags;
	u32 len; /* of the IP packet */
	u32 vip; /* once it is found */
	u32 backend;
	u64 hash; /* of the flow, or for later fragments just a number that spreads them */
	u64 now;  /* CLOCK_MONOTONIC, to some milliseconds: the coarse clock is a load */
};

/* Two addresses may have one tag; user space then builds the half with the other key and says so in the epoch. */
static inline u32 host_tag(const struct query *q, u64 epoch)
{
	const volatile u64 *k = epoch & 2 ? hash_key.print : hash_key.line;
	u64 h = k[3] * q->local[0];

	if (q->family == 6)
		h += k[4] * q->local[1] + k[5] * q->local[2] + k[6] * q->local[3];
	return (u32)(h >> 32) | 1; /* never 0, which marks an unused entry */
}

/* The entry of vip_hosts for tag; a full line is followed by the next one. */
static inline u64 find_host(u32 half, u32 tag)
{
	for (u32 i = 0; i < 2; i++) {
		u32 at = ((tag >> 1) + i) & host_mask;
		struct hosts *h;

		at += half * (host_mask + 1);
		h = bpf_map_lookup_elem(&vip_hosts, &at);
		if (!h)
			return 0;
#pragma unroll
		for (int s = 0; s < SLOTS; s++) {
			u64 e = READ_ONCE(h->entry[s]);

			if (e >> 32 == tag)
				return e;
			if (!e)
				return 0;
		}
	}
	return 0;
}

#define SEARCH_STEPS 14

separate u32 starts_at_most(u32 line, u32 key)
{
	struct ranges *r = bpf_map_lookup_elem(&vip_ports, &line);

	return r && r->entry[0].low <= key;
}

/* The line of a long list that holds key: the last one that does not start behind it. No branch depends on what
 * is found, so the verifier has one way to follow. */
separate u32 find_line(u32 first, u32 lines, u32 key)
{
	for (int i = 0; i < SEARCH_STEPS && lines > 1; i++) {
		u32 half = lines / 2;

		first += half * (starts_at_most(first + half, key) & 1);
		lines -= half;
	}
	return first;
}

static inline u32 find_range(u32 half, u64 host, u32 key)
{
	u32 at = half * port_lines + (u32)(host >> 16 & 0xffff);
	u32 lines = host & 0xffff;
	struct ranges *r;

	if (unlikely(lines > 1))
		at = find_line(at, lines, key);
	r = bpf_map_lookup_elem(&vip_ports, &at);
	if (!r)
		return 0;
#pragma unroll
	for (int s = 0; s < SLOTS; s++) {
		if (key - r->entry[s].low <= r->entry[s].span)
			return r->entry[s].vip;
	}
	return 0;
}

static inline u32 range_key(const struct query *q)
{
	return (u32)q->protocol << 16 | ntohs((be16)(q->ports >> 16));
}

separate u32 find_again(struct control_block *c, const struct query *q)
{
	u64 epoch;

	if (!c || !q)
		return 0;
	epoch = READ_ONCE(c->epoch);
	return find_range(epoch & 1, find_host(epoch & 1, host_tag(q, epoch)), range_key(q));
}

static inline bool same_address(const struct vip *v, const struct query *q)
{
	if (v->family != q->family || v->address[0] != q->local[0])
		return false;
	return q->family == 4 || (v->address[1] == q->local[1] && v->address[2] == q->local[2] && v->address[3] == q->local[3]);
}

/* The VIP that a query is for, and its id; NULL if it is none of ours. User space fills a half only when nobody
 * has read in it since it was left; that the epoch stands still is checked all the same (invariant D3). */
static inline struct vip *find_vip(struct control_block *c, const struct query *q, u32 *id)
{
	u64 epoch = READ_ONCE(c->epoch);
	u32 half = epoch & 1;
	u64 host = find_host(half, host_tag(q, epoch));
	struct vip *v;

	if (!host)
		return NULL;
	*id = find_range(half, host, range_key(q));
	if (unlikely(READ_ONCE(c->epoch) != epoch))
		*id = find_again(c, q);
	if (!*id)
		return NULL;
	v = bpf_map_lookup_elem(&vips, id);
	if (!v || !same_address(v, q))
		return NULL;
	return v;
}

/* Whether an address has any VIP: later fragments have no ports to ask by. */
static inline bool is_host(struct control_block *c, const struct query *q)
{
	u64 epoch = READ_ONCE(c->epoch);
	u32 half = epoch & 1;
	u64 host = find_host(half, host_tag(q, epoch));
	u32 at = half * port_lines + (u32)(host >> 16 & 0xffff), id;
	struct ranges *r;
	struct vip *v;

	if (!host)
		return false;
	r = bpf_map_lookup_elem(&vip_ports, &at);
	if (!r)
		return false;
	id = r->entry[0].vip;
	v = bpf_map_lookup_elem(&vips, &id);
	return v && same_address(v, q);
}
