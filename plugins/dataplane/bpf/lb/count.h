/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Counting, and copying packets out on request. */
#pragma once

#include "maps.h"

static inline void count(u32 reason)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct reason_counters *r = bpf_map_lookup_elem(&reasons, &cpu);

	opaque(reason);
	reason &= REASON_ROOM - 1;
	if (r)
		r->count[reason]++;
}

static inline struct vip_counter *count_vip(u32 vip)
{
	u32 i = bpf_get_smp_processor_id() * vip_count + vip;

	return bpf_map_lookup_elem(&vip_counters, &i);
}

static inline void count_forwarded(u32 cpu, u32 vip, u32 backend, u32 bytes)
{
	u32 i = cpu * vip_count + vip;
	u32 j = cpu * backend_count + backend;
	struct vip_counter *v = bpf_map_lookup_elem(&vip_counters, &i);
	struct backend_counter *b = bpf_map_lookup_elem(&backend_counters, &j);

	if (v) {
		v->packets++;
		v->bytes += bytes;
	}
	if (b) {
		b->packets++;
		b->bytes += bytes;
	}
}

separate int copy_out(struct xdp_md *ctx, struct control_block *c, u32 vip, u32 reason)
{
	u64 length = ctx->data_end - ctx->data;
	struct captured *out;
	u32 only, of;

	if (!c)
		return 0;
	only = READ_ONCE(c->capture_reason);
	of = READ_ONCE(c->capture_vip);
	if ((of && of != vip) || (only && only != reason))
		return 0;
	if (__sync_fetch_and_add(&c->capture_left, -1) <= 0) {
		WRITE_ONCE(c->capture, 0);
		return 0;
	}
	out = bpf_ringbuf_reserve(&captures, sizeof(*out), 0);
	if (!out) {
		count(REASON_EVENT_LOST);
		return 0;
	}
	out->time = bpf_ktime_get_ns();
	out->length = length;
	out->vip = vip;
	out->reason = reason;
	out->unused = 0;
	if (length > SNAP)
		length = SNAP;
	opaque(length); /* the test below stays where the verifier sees it */
	out->kept = length;
	if (length < 14 || length > SNAP || bpf_xdp_load_bytes(ctx, 0, out->bytes, length)) {
		bpf_ringbuf_discard(out, 0);
		return 0;
	}
	bpf_ringbuf_submit(out, 0);
	return 0;
}

static inline void capture(struct xdp_md *ctx, struct control_block *c, u32 vip, u32 reason)
{
	if (unlikely(READ_ONCE(c->capture)))
		copy_out(ctx, c, vip, reason);
}
