/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Fragments: the first one has ports and is treated like a whole packet; where it went is remembered for the
 * others. One that overtakes the first is dropped, and the sender repeats the packet. */
#pragma once

#include "flow.h"

static inline void fragment_key(struct fragment_key *k, const struct query *q, u32 id)
{
	__builtin_memcpy(k->client, q->client, sizeof(k->client));
	__builtin_memcpy(k->local, q->local, sizeof(k->local));
	k->id = id;
	k->protocol = q->protocol;
}

separate int remember_fragment(const struct query *q, u32 id, u32 vip, u32 backend)
{
	struct backend *b = live_backend(backend);
	struct fragment_key k;
	struct fragment_to to = { .vip = vip, .backend = backend };

	if (!b || !q)
		return 0;
	to.generation = b->generation;
	fragment_key(&k, q, id);
	bpf_map_update_elem(&fragments, &k, &to, UPDATE_ANY);
	return 0;
}

/* The backend of a later fragment, or NULL. */
static inline struct backend *fragment_backend(const struct query *q, u32 id, struct fragment_to *to)
{
	struct fragment_key k;
	struct fragment_to *found;
	struct backend *b;

	fragment_key(&k, q, id);
	found = bpf_map_lookup_elem(&fragments, &k);
	if (!found)
		return NULL;
	*to = *found;
	b = live_backend(to->backend);
	return b && b->generation == to->generation ? b : NULL;
}
