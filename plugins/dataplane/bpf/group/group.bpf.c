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
 * and those of connections that are closing give way (D2).
 *
 * The membership is only good until the lease's end, on the clock that also runs while the machine sleeps. */
#include "flow.h"

LICENSE;

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
