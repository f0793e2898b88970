/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The Internet checksum, RFC 1071: sums may be taken in any byte order and folded late. */
#pragma once

#include "net.h"

static inline u16 csum_fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)~sum;
}

/* Sum over an IPv4 header without options; 0 after folding means intact. */
static inline u64 csum_ipv4(const struct iphdr *ip)
{
	const u32 *w = (const u32 *)ip;

	return (u64)w[0] + w[1] + w[2] + w[3] + w[4];
}
