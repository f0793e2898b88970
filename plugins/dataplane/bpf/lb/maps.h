/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The tables of the balancer. Records are one cache line each and written by user space through shared memory;
 * a program and user space meet only on words that are written with atomic operations, or behind an epoch.
 *
 * A change of any record here is a change of layout: raise table.Layout. */
#pragma once

#include "parse.h"
#include "ratchet.h"

#define LINE 64
#define SLOTS 8 /* flow entries, hosts, or port ranges in a line */
#define RING_CHUNK 32

/* Constants of this load; the verifier folds them in. */
const volatile struct tuple_key hash_key = {};
const volatile be32 source4 = 0;
const volatile be32 source6[4] = {};
const volatile u32 flow_mask = 0;  /* lines of the flow table - 1 */
const volatile u32 host_mask = 0;  /* lines of one half of vip_hosts - 1 */
const volatile u32 port_lines = 0; /* lines of one half of vip_ports */
const volatile u32 vip_count = 0;  /* stride of vip_counters: one row a CPU */
const volatile u32 backend_count = 0;
const volatile u32 path_mtu = 1500;
const volatile be16 gue_port = 0;
const volatile be16 vxlan_port = 0;
const volatile u32 reply_limit = 1000; /* answers of our own, a second and CPU */

/* Written by user space, read by every packet. */
struct control_block {
	u64 epoch;      /* of vip_hosts and vip_ports: its lowest bit is the half in use */
	u32 events;     /* non-zero: flows that open or close are told */
	u32 capture;    /* non-zero: packets that match are copied out */
	u32 capture_vip;    /* 0: of any */
	u32 capture_reason; /* REASON_NONE: forwarded ones too */
	s64 capture_left;
	u64 overflowed; /* entries in the overflow table, about: 0 saves looking */
	u64 zero; /* always; the verifier does not know that. See find_in_line */
	u64 reserved[2];
	u64 key[2 * TUPLE_WORDS]; /* kept here for the next load */
	u64 layout[2];           /* version; lines of the flow table */
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct control_block);
} control SEC(".maps");

static inline struct control_block *the_control(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

/* Where an address's port ranges are: SLOTS entries of tag (of the address) << 32 | first line << 16 | lines. */
struct hosts {
	u64 entry[SLOTS];
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct hosts);
} vip_hosts SEC(".maps");

/* Disjoint ranges in order: low is protocol << 16 | first port. */
struct range {
	u32 low;
	u16 span;
	u16 vip;
};

struct ranges {
	struct range entry[SLOTS];
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct ranges);
} vip_ports SEC(".maps");

enum vip_flags {
	VIP_QUIC = 1,
	VIP_KEEP_SOURCE = 2, /* the outer header carries the client's address */
	VIP_KEEP_PORT = 4,   /* and its UDP header the client's port */
	VIP_RESET = 8,       /* exhausted: answer with a reset */
	VIP_LAST_WEIGHTS = 16, /* exhausted: by the ring all the same */
};

struct vip {
	be32 address[4]; /* the first word alone for IPv4 */
	u64 ring; /* base in chunks 24 | slots 24 | epoch 16; written as one word */
	u16 first;
	u16 last;
	u8 family;
	u8 protocol; /* of the configuration, for user space */
	u8 flags;
	u8 used;
	u64 reserved[4];
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vip);
} vips SEC(".maps");

struct ring_chunk {
	u16 backend[RING_CHUNK];
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ring_chunk);
} rings SEC(".maps");

enum encapsulation { ENCAP_IPIP = 0, ENCAP_GUE = 1, ENCAP_VXLAN = 2 };

struct backend {
	be32 address[4];
	u64 key; /* made of its identity, for user space */
	u32 sum; /* checksum of the outer IPv4 header without source, length, class and DF */
	u32 vni;
	struct mac next_hop; /* all zero: ask the kernel */
	struct mac inner;    /* destination inside VXLAN */
	u8 family;
	u8 encapsulation;
	u8 generation; /* 4 bits; entries of another one are dead */
	u8 used;
	u16 overhead; /* bytes that go before the inner IP header, without the outer Ethernet header */
	u16 server;   /* QUIC server id */
	u64 reserved;
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct backend);
} backends SEC(".maps");

/* New flows a backend may still get: grant - dispatched. Invariant D1. */
struct credit {
	u64 dispatched; /* flows given to it, less those that came back unfinished; never below floor */
	u64 grant;      /* how many it may have had in all: floor and the report's limit */
	u64 expires;    /* CLOCK_MONOTONIC; 0: never. Past it the backend counts as full */
	u64 returned;
	u64 sequence; /* user space's, of the last report */
	u64 accepted; /* user space's: what the host said last */
	u64 base;     /* user space's: what `accepted` is off by */
	u64 floor;    /* dispatched flows that the host had accepted by its last report */
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct credit);
} credits SEC(".maps");

struct flow_line {
	u64 entry[SLOTS];
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct flow_line);
} flows SEC(".maps");

/* Flows both of whose lines are full of established ones. */
struct {
	__uint(type, MAP_HASH);
	__uint(max_entries, 1);
	__type(key, u64); /* the whole hash */
	__type(value, u64);
} overflow SEC(".maps");

/* Where the first fragment of a packet went. */
struct fragment_key {
	be32 client[4];
	be32 local[4];
	u32 id;
	u32 protocol;
};

struct fragment_to {
	u16 vip;
	u16 backend;
	u8 generation;
	u8 unused[3];
};

struct {
	__uint(type, MAP_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, struct fragment_to);
} fragments SEC(".maps");

/* Backend of a QUIC server id: four a word. */
struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 65536 / 4);
	__type(key, u32);
	__type(value, u64);
} servers SEC(".maps");

/* Counters are rows of plain arrays, one row a CPU: looked up without a call, read without a system call. */
struct vip_counter {
	u64 packets;
	u64 bytes;
	u64 flows;
	u64 refused;
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct vip_counter);
} vip_counters SEC(".maps");

struct backend_counter {
	u64 packets;
	u64 bytes;
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct backend_counter);
} backend_counters SEC(".maps");

#define REASON_ROOM 64 /* more than there are, so that another one is no new layout */

struct reason_counters {
	u64 count[REASON_ROOM];
	u64 window; /* of the limit on answers: second, and how many in it */
	u64 answers;
	u64 reserved[6];
};

struct {
	__uint(type, MAP_ARRAY);
	__uint(map_flags, MAP_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct reason_counters);
} reasons SEC(".maps");

enum event_kind { EVENT_ESTABLISHED = 1, EVENT_CLOSING = 2 };

struct event {
	be32 client[4];
	be32 local[4];
	u32 ports; /* client's, then ours, as on the wire */
	u16 vip;
	u16 backend;
	u8 kind;
	u8 family;
	u8 protocol;
	u8 unused[5];
};

struct {
	__uint(type, MAP_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

#define SNAP 256

struct captured {
	u64 time; /* CLOCK_MONOTONIC */
	u32 length;
	u16 vip;
	u16 reason;
	u32 kept;
	u32 unused;
	u8 bytes[SNAP];
};

struct {
	__uint(type, MAP_RINGBUF);
	__uint(max_entries, 128 * 1024);
} captures SEC(".maps");

/* Types that Go needs and no map names: clang keeps those that a global leads to. */
struct exported {
	struct event event;
	struct captured captured;
	enum reason reason;
	enum vip_flags vip_flags;
	enum encapsulation encapsulation;
	enum event_kind event_kind;
};
const volatile struct exported *const volatile exported = NULL;
