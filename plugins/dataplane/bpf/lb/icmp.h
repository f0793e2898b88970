/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* ICMP errors about packets that a backend sent in a VIP's name. They quote the packet's head, so the flow
 * they are about is the quoted one turned round; its backend gets the error, path MTU discovery with it. */
#pragma once

#include "vip.h"

enum { ICMP_UNREACHABLE = 3, ICMP_TIME_EXCEEDED = 11, ICMP_PARAMETER = 12, ICMP6_FIRST_INFO = 128 };

static inline void quoted_ports(struct query *q, u32 ports)
{
	q->ports = ports >> 16 | ports << 16;
	q->related = true;
	q->flags = 0;
}

/* 0: q is the flow that the error is about. Else a reason. */
separate int quoted4(struct xdp_md *ctx, u32 l4, u32 end, struct query *q)
{
	struct {
		struct icmphdr icmp;
		struct iphdr ip;
	} h;
	u32 ports, header;

	if (l4 + sizeof(h) + 8 > end)
		return REASON_PASS_LOCAL; /* too short to quote anything: the kernel's to judge */
	if (bpf_xdp_load_bytes(ctx, l4, &h, sizeof(h)) || !q)
		return REASON_TRUNCATED;
	if (h.icmp.type != ICMP_UNREACHABLE && h.icmp.type != ICMP_TIME_EXCEEDED && h.icmp.type != ICMP_PARAMETER)
		return REASON_PASS_LOCAL;
	header = (h.ip.version_ihl & 15) * 4;
	if (h.ip.version_ihl >> 4 != 4 || header < sizeof(h.ip) || h.ip.saddr != q->local[0])
		return REASON_BAD_ICMP;
	if (h.ip.protocol != IP_TCP && h.ip.protocol != IP_UDP)
		return REASON_PASS_LOCAL;
	if (h.ip.frag & htons(IP_OFFSET))
		return REASON_FRAGMENT;
	l4 += sizeof(h.icmp) + header;
	if (l4 + 8 > end || bpf_xdp_load_bytes(ctx, l4, &ports, sizeof(ports)))
		return REASON_BAD_ICMP;
	q->client[0] = h.ip.daddr;
	q->protocol = h.ip.protocol;
	quoted_ports(q, ports);
	return 0;
}

separate int quoted6(struct xdp_md *ctx, u32 l4, u32 end, struct query *q)
{
	struct {
		struct icmphdr icmp;
		struct ip6hdr ip;
	} h;
	struct ip6ext ext;
	u32 ports;

	if (l4 + sizeof(h) + 8 > end)
		return REASON_PASS_LOCAL;
	if (bpf_xdp_load_bytes(ctx, l4, &h, sizeof(h)) || !q)
		return REASON_TRUNCATED;
	if (h.icmp.type == 0 || h.icmp.type >= ICMP6_FIRST_INFO)
		return REASON_PASS_LOCAL;
	if ((h.ip.flow & htonl(0xf0000000)) != htonl(0x60000000))
		return REASON_BAD_ICMP;
	for (int i = 0; i < 4; i++)
		if (h.ip.saddr[i] != q->local[i])
			return REASON_BAD_ICMP;
	l4 += sizeof(h);
	if (h.ip.next == IP_FRAGMENT) {
		if (bpf_xdp_load_bytes(ctx, l4, &ext, sizeof(ext)))
			return REASON_BAD_ICMP;
		if (ext.frag & htons(0xfff8))
			return REASON_FRAGMENT;
		h.ip.next = ext.next;
		l4 += sizeof(ext);
	}
	if (h.ip.next != IP_TCP && h.ip.next != IP_UDP)
		return REASON_PASS_LOCAL;
	if (l4 + 8 > end || bpf_xdp_load_bytes(ctx, l4, &ports, sizeof(ports)))
		return REASON_BAD_ICMP;
	for (int i = 0; i < 4; i++)
		q->client[i] = h.ip.daddr[i];
	q->protocol = h.ip.next;
	quoted_ports(q, ports);
	return 0;
}
