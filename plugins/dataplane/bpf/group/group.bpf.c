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

SEC("tc")
int group_egress(struct __sk_buff *skb)
{
	struct decision d = {};
	struct hash_key *key;
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
	index = bpf_map_lookup_elem(&group_addresses, f.address);
	if (!index)
		return TC_ACT_UNSPEC;
	at = *index;
	row = bpf_map_lookup_elem(&group_rows, &at);
	lease = bpf_map_lookup_elem(&group_lease, &zero);
	key = bpf_map_lookup_elem(&group_key, &zero);
	if (!row || !lease || !key)
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
	h = hash_of_flow(&f, key, row->tag, &group_fragments);
	if (!h) {
		note(OUTCOME_FRAGMENT);
		return TC_ACT_SHOT;
	}
	r = choose(at, &f, h, now, &d);
	if (r) {
		note(r);
		return TC_ACT_SHOT;
	}
	if (encapsulate(skb, &d.path, h, f.tos)) {
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
	return bpf_redirect_neigh(d.path.link, NULL, 0, 0);

malformed:
	note(OUTCOME_MALFORMED);
	return TC_ACT_SHOT;
}
