//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* The balancer's datapath: package table's doc.go says what it guarantees, invariants D1 to D3 what must hold.
 *
 * The way of a packet: quick.h, for nearly all of them. For the others: parse.h -> vip.h (is it for one of ours) ->
 * flow.h (does its flow have a backend) -> if not, credit.h (choose one) and flow.h (remember it) -> send.h (encapsulate). */
#include "fragment.h"
#include "icmp.h"
#include "quic.h"
#include "quick.h"
#include "send.h"
#include "state.h"

LICENSE;

static inline void fill_query(struct query *q, const struct packet *p)
{
	void *l3 = p->data + p->l3;

	q->family = p->family;
	q->protocol = p->protocol;
	if (p->family == 4) {
		struct iphdr *ip = l3;

		q->client[0] = ip->saddr;
		q->local[0] = ip->daddr;
	} else {
		struct ip6hdr *ip = l3;

		for (int i = 0; i < 4; i++) {
			q->client[i] = ip->saddr[i];
			q->local[i] = ip->daddr[i];
		}
	}
}

/* Ports, and of TCP the flags. 0 or a reason. */
static inline int parse_l4(struct query *q, const struct packet *p, void *l4)
{
	u32 left = p->l3 + p->len - p->l4;

	if (q->protocol == IP_TCP) {
		struct tcphdr *tcp = l4;
		u32 header, f;

		if ((void *)(tcp + 1) > p->end)
			return REASON_BAD_L4;
		header = (tcp->off >> 4) * 4;
		if (header < sizeof(*tcp) || header > left)
			return REASON_BAD_L4;
		f = tcp->flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);
		/* Nobody's TCP sends these to a server; a flood or a scan does. */
		if (!f || (f & TCP_SYN && f != TCP_SYN))
			return REASON_BAD_FLAGS;
		q->ports = *(u32 *)l4;
		q->flags = f;
		q->data = left > header;
	} else {
		struct udphdr *udp = l4;
		u32 len;

		if ((void *)(udp + 1) > p->end || left < sizeof(*udp))
			return REASON_BAD_L4;
		len = ntohs(udp->len);
		if (len < sizeof(*udp) || (len > left && !p->fragment))
			return REASON_BAD_L4;
		q->ports = *(u32 *)l4;
	}
	return 0;
}

/* Refuses a new flow as its VIP says. */
separate int refuse(struct xdp_md *ctx, const struct query *q, struct vip *v, u32 seq_at, u32 reason)
{
	struct vip_counter *counter;
	struct answer a = {};
	be32 seq;

	count(reason);
	if (!v || !q)
		return XDP_DROP;
	counter = count_vip(q->vip);
	if (counter)
		counter->refused++;
	if (!(v->flags & VIP_RESET) || q->protocol != IP_TCP || q->flags != TCP_SYN || q->related || !may_answer(q->now))
		return XDP_DROP;
	if (bpf_xdp_load_bytes(ctx, seq_at, &seq, sizeof(seq)))
		return XDP_DROP;
	__builtin_memcpy(a.to, q->client, sizeof(a.to));
	__builtin_memcpy(a.from, q->local, sizeof(a.from));
	a.ports = q->ports;
	a.family = q->family;
	a.ack = htonl(ntohl(seq) + 1);
	return send_reset(ctx, &a);
}

/* A function of its own, for its words do not fit onto general's stack: 6.1 allows 512 bytes to all that call each other. */
separate u64 hash_of(const struct query *q)
{
	if (!q)
		return 0;
	return q->family == 4 ? tuple_hash(&hash_key, q->client, q->local, q->ports, q->protocol, 1) :
				tuple_hash(&hash_key, q->client, q->local, q->ports, q->protocol, 4);
}

/* Any packet, from its first byte. found is what the short way says. */
separate int general(struct xdp_md *ctx, u64 found)
{
	struct packet p = {};
	struct query q = {};
	struct backend *b = NULL;
	struct flow_line *line;
	struct control_block *c;
	struct vip *v;
	void *l4;
	u32 at, vip, id;
	u64 print, e, *slot, epoch;
	int r;

	c = the_control();
	if (!c)
		return XDP_PASS;
	if (found & ONLY_SEND) {
		q.backend = found & 0xffff;
		q.vip = found >> 16 & 0xffff;
		q.vip_flags = found >> 32 & 0xff;
	}
	r = parse_frame(&p, ctx);
	if (unlikely(r == REASON_BAD_EXTENSION)) {
		/* The kernel knows more of them: another address's are its own. */
		fill_query(&q, &p);
		if (!is_host(c, &q))
			r = REASON_PASS_NO_VIP;
	}
	if (unlikely(r))
		goto stop;
	/* One pointer for all accesses: the verifier knows how far it may be followed, not another like it. */
	l4 = p.data + p.l4;
	opaque(l4);
	fill_query(&q, &p);
	q.now = bpf_ktime_get_coarse_ns();
	q.df = p.df;
	q.tos = p.tos;
	q.len = p.len;

	if (unlikely(p.fragment == FRAG_LATER)) {
		struct fragment_to to = {};

		r = REASON_PASS_NO_VIP;
		if (!is_host(c, &q))
			goto stop;
		r = REASON_PASS_LOCAL; /* as the first one of a ping was */
		if (q.protocol != IP_TCP && q.protocol != IP_UDP)
			goto stop;
		r = REASON_FRAGMENT;
		b = fragment_backend(&q, p.id, &to);
		if (!b)
			goto stop;
		q.vip = to.vip;
		q.backend = to.backend;
		q.hash = p.id * 0x9e3779b1u;
		goto send;
	}
	if (likely(q.protocol == IP_TCP || q.protocol == IP_UDP)) {
		/* Before it is known to be for a VIP, a packet is not ours to judge: only its ports are read. */
		r = REASON_PASS_NO_VIP;
		if (l4 + 8 > p.end)
			goto stop;
		r = REASON_NONE;
		q.ports = *(u32 *)l4;
	} else if (q.protocol == IP_ICMP && q.family == 4) {
		r = is_host(c, &q) ? quoted4(ctx, p.l4, p.l3 + p.len, &q) : REASON_PASS_NO_VIP;
	} else if (q.protocol == IP_ICMPV6 && q.family == 6) {
		r = is_host(c, &q) ? quoted6(ctx, p.l4, p.l3 + p.len, &q) : REASON_PASS_NO_VIP;
	} else {
		r = REASON_PASS_NO_VIP;
	}
	if (unlikely(r))
		goto stop;

	/* The flow's line is asked for first: it is the one thing here that is often not in the cache. */
	q.hash = hash_of(&q);
	if (q.backend)
		goto send;
	print = print_of_hash(q.hash);
	at = (u32)(q.hash >> 32) & flow_mask;
	line = bpf_map_lookup_elem(&flows, &at);
	slot = line ? find_in_line(c, line, print) : NULL;

	r = REASON_PASS_NO_VIP;
	epoch = READ_ONCE(c->epoch);
	v = find_vip(c, &q, &vip);
	if (!v)
		goto stop;
	r = REASON_NONE;
	q.vip = vip;
	q.vip_flags = v->flags;
	if (!q.related && !(q.vip_flags & VIP_QUIC)) /* whose every packet needs a look */
		keep_recent(&q, epoch);
	if (likely(!q.related)) {
		r = parse_l4(&q, &p, l4);
		/* A client that claims the VIP's own address: its answer would come back here for ever. */
		if (q.client[0] == q.local[0] && (q.family == 4 || (q.client[1] == q.local[1] && q.client[2] == q.local[2] && q.client[3] == q.local[3])))
			r = REASON_BAD_SOURCE;
		if (unlikely(r))
			goto stop;
	}

	if (unlikely(v->flags & VIP_QUIC) && !q.related) {
		id = quic_backend(ctx, p.l4, p.l3 + p.len);
		if (id) {
			b = live_backend(id);
			q.backend = id;
			if (b)
				goto send;
		}
	}

	if (!slot) {
		at = other_line(at, print);
		line = bpf_map_lookup_elem(&flows, &at);
		slot = line ? find_in_line(c, line, print) : NULL;
		if (!slot && READ_ONCE(c->overflowed))
			slot = find_overflow(q.hash);
	}
	e = slot ? READ_ONCE(*slot) : 0;
	/* A half-open one may have given way to another flow's since it was found. */
	if (likely(slot && PRINT_OF(e) == print)) {
		b = backend_of_entry(e);
		id = BACKEND_OF(e);
		if (unlikely(!b || (!unchanged(&q, e) && !known(&q, slot, e)))) {
			/* The entry of the connection that was, or of a removed backend: without it the new one, which may
			 * stand behind it, is not mistaken for it. */
			swap_entry(slot, e, 0);
			b = NULL;
		}
	}
	if (unlikely(!b)) {
		r = open_flow(&q, v);
		if (r < 0) {
			capture(ctx, c, vip, -r);
			return refuse(ctx, &q, v, p.l4 + offsetof(struct tcphdr, seq), -r);
		}
		id = r;
		b = live_backend(id);
		r = REASON_NO_BACKEND;
		if (!b)
			goto stop;
	}
	q.backend = id;
	if (unlikely(p.fragment))
		remember_fragment(&q, p.id, vip, id);
send:
	return forward(ctx, &q);
stop:
	count(r);
	capture(ctx, c, q.vip, r);
	return r <= REASON_PASS_LOCAL ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int balance(struct xdp_md *ctx)
{
	u64 r = quick(ctx);

	return likely(r <= XDP_REDIRECT) ? r : general(ctx, r);
}
