/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Headers of the wire. None is packed: clang would then load and store byte by byte, and x86 does not mind
 * that an IP header stands at an offset of 14. */
#pragma once

#include "types.h"

enum ethertype { ETH_IPV4 = 0x0800, ETH_ARP = 0x0806, ETH_VLAN = 0x8100, ETH_IPV6 = 0x86dd, ETH_QINQ = 0x88a8, ETH_TEB = 0x6558 };

enum ip_protocol {
	IP_HOPOPTS = 0,
	IP_ICMP = 1,
	IP_IPIP = 4,
	IP_TCP = 6,
	IP_UDP = 17,
	IP_IPV6 = 41,
	IP_ROUTING = 43,
	IP_FRAGMENT = 44,
	IP_ICMPV6 = 58,
	IP_DSTOPTS = 60,
};

struct mac {
	u16 w[3];
};

struct ethhdr {
	struct mac dst;
	struct mac src;
	be16 type;
};

struct iphdr {
	u8 version_ihl;
	u8 tos;
	be16 len;
	be16 id;
	be16 frag;
	u8 ttl;
	u8 protocol;
	u16 check;
	be32 saddr;
	be32 daddr;
};

#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff

enum fragment { FRAG_NONE = 0, FRAG_FIRST, FRAG_LATER };

struct ip6hdr {
	be32 flow; /* version 4, class 8, label 20 */
	be16 len;
	u8 next;
	u8 hops;
	be32 saddr[4];
	be32 daddr[4];
};

struct ip6ext {
	u8 next;
	u8 len;
	be16 frag; /* of a fragment header: offset 13, reserved 2, more 1 */
	be32 id;
};

struct tcphdr {
	be16 sport;
	be16 dport;
	be32 seq;
	be32 ack;
	u8 off; /* high nibble: words of header */
	u8 flags;
	be16 window;
	u16 check;
	be16 urgent;
};

enum tcp_flag { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_PSH = 8, TCP_ACK = 16, TCP_URG = 32 };

struct udphdr {
	be16 sport;
	be16 dport;
	be16 len;
	u16 check;
};

struct icmphdr {
	u8 type;
	u8 code;
	u16 check;
	be16 unused;
	be16 mtu; /* ICMP 3/4; ICMPv6 type 2 uses all four bytes */
};

/* RFC 7348. A kernel drops what has a bit set that is not defined there, or by VXLAN-GBP on a gbp device. */
struct vxlanhdr {
	be32 flags; /* 0x08000000 = the VNI is valid */
	be32 vni;   /* 24 bits, then 8 reserved */
};

#define VXLAN_VALID 0x08000000
