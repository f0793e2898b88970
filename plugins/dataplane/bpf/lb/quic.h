/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* QUIC connection ids that name their server, so that a client may change its address (RFC 9000 section 9).
 *
 * The form is the plaintext one of draft-ietf-quic-load-balancers: the first byte's upper three bits are the
 * configuration, 0 here; two bytes of server id follow it. A client's first packets carry an id of its own
 * making: those of types Initial and 0-RTT go by the flow table. */
#pragma once

#include "credit.h"

#define QUIC_LONG 0x80
#define QUIC_FIXED 0x40
#define QUIC_CONFIG 0xe0

static inline u32 server_backend(u32 server)
{
	u32 at = server / 4;
	u64 *word = bpf_map_lookup_elem(&servers, &at);

	return word ? (u32)(READ_ONCE(*word) >> (server % 4 * 16) & 0xffff) : 0;
}

/* The backend that the packet's connection id names, or 0. l4 is where UDP starts, end where it ends. */
separate u32 quic_backend(struct xdp_md *ctx, u32 l4, u32 end)
{
	u8 h[10]; /* flags, version 4, length 1, id 3 */
	u8 *id = h + 1;

	l4 += sizeof(struct udphdr);
	if (l4 + sizeof(h) > end || bpf_xdp_load_bytes(ctx, l4, h, sizeof(h)))
		return 0;
	if (h[0] & QUIC_LONG) {
		u32 type = h[0] >> 4 & 3;
		bool version1 = !h[1] && !h[2] && !h[3] && h[4] == 1;

		/* Only version 1's types are known: 0 is Initial, 1 is 0-RTT. */
		if (!version1 || type <= 1 || h[5] < 3)
			return 0;
		id = h + 6;
	} else if (!(h[0] & QUIC_FIXED)) {
		return 0;
	}
	if (id[0] & QUIC_CONFIG)
		return 0;
	return server_backend((u32)id[1] << 8 | id[2]);
}
