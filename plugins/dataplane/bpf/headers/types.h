/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Types, sections and the parts of <linux/bpf.h> that our programs use. The values are the kernel's ABI. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;
typedef u16 be16; /* in network order */
typedef u32 be32;
typedef u8 bool;

#define true 1
#define false 0
#define NULL ((void *)0)

#define SEC(name) __attribute__((section(name), used))
#define inline __inline__ __attribute__((__always_inline__))
#define noinline __attribute__((__noinline__))
/* A function that the verifier checks once, by itself, not anew on each way that leads to it. Its arguments are
 * scalars, the context, or pointers to whole structs, which may be NULL; it returns a number. */
#define separate __attribute__((__noinline__))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#define LICENSE char _license[] SEC("license") = "Dual BSD/GPL"

/* Memory that others change: read once, written once. */
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))
/* Keeps clang from moving loads and stores over this point; x86 keeps their order then by itself. */
#define barrier() __asm__ __volatile__("" ::: "memory")
/* Hides a value from clang, so that a bounds check in front of it stays where the verifier sees it. */
#define opaque(x) __asm__ __volatile__("" : "+r"(x))

#define ntohs(x) ((u16)__builtin_bswap16(x))
#define htons(x) ((be16)__builtin_bswap16(x))
#define ntohl(x) ((u32)__builtin_bswap32(x))
#define htonl(x) ((be32)__builtin_bswap32(x))

/* Members of a map definition in SEC(".maps"). */
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value) *name

enum map_type {
	MAP_HASH = 1,
	MAP_ARRAY = 2,
	MAP_PROG_ARRAY = 3,
	MAP_PERCPU_ARRAY = 6,
	MAP_LRU_HASH = 9,
	MAP_LPM_TRIE = 11,
	MAP_ARRAY_OF_MAPS = 12,
	MAP_DEVMAP = 14,
	MAP_RINGBUF = 27,
};

enum map_flags {
	MAP_NO_PREALLOC = 1 << 0,
	MAP_MMAPABLE = 1 << 10,
};

enum update_flags {
	UPDATE_ANY = 0,
	UPDATE_NOEXIST = 1,
	UPDATE_EXIST = 2,
};

enum xdp_action {
	XDP_ABORTED = 0,
	XDP_DROP,
	XDP_PASS,
	XDP_TX,
	XDP_REDIRECT,
};

enum tc_action {
	TC_ACT_UNSPEC = -1,
	TC_ACT_OK = 0,
	TC_ACT_SHOT = 2,
	TC_ACT_REDIRECT = 7,
};

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 data_meta;
	u64 flow_keys __attribute__((aligned(8)));
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	u64 sk __attribute__((aligned(8)));
	u32 gso_size;
	u8 tstamp_type;
	u8 padding[3];
	u64 hwtstamp;
};

struct fib_lookup {
	u8 family;
	u8 l4_protocol;
	be16 sport;
	be16 dport;
	u16 tot_len; /* out, with CHECK_MTU: the route's MTU */
	u32 ifindex;
	u32 tos_or_flowinfo;
	u32 src[4]; /* the first word alone for IPv4 */
	u32 dst[4];
	u16 vlan_proto;
	u16 vlan_tci;
	u8 smac[6];
	u8 dmac[6];
};

enum { AF_INET = 2, AF_INET6 = 10 };
enum { FIB_LOOKUP_OUTPUT = 2, FIB_LOOKUP_SUCCESS = 0 };
