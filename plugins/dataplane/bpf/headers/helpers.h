/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The kernel's helpers that our programs call, by their number in <linux/bpf.h>. See bpf-helpers(7). */
#pragma once

#include "types.h"

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *skb, u32 offset, const void *from, u32 len, u64 flags) = (void *)9;
static long (*const bpf_l3_csum_replace)(struct __sk_buff *skb, u32 offset, u64 from, u64 to, u64 size) = (void *)10;
static long (*const bpf_l4_csum_replace)(struct __sk_buff *skb, u32 offset, u64 from, u64 to, u64 flags) = (void *)11;
static long (*const bpf_tail_call)(void *ctx, void *prog_array, u32 index) = (void *)12;
static long (*const bpf_clone_redirect)(struct __sk_buff *skb, u32 ifindex, u64 flags) = (void *)13;
static long (*const bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*const bpf_skb_load_bytes)(const void *skb, u32 offset, void *to, u32 len) = (void *)26;
static u32 (*const bpf_get_hash_recalc)(struct __sk_buff *skb) = (void *)34;
static long (*const bpf_skb_change_tail)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)38;
static long (*const bpf_skb_pull_data)(struct __sk_buff *skb, u32 len) = (void *)39;
static long (*const bpf_skb_change_head)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)43;
static long (*const bpf_xdp_adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;
static long (*const bpf_skb_adjust_room)(struct __sk_buff *skb, s32 len, u32 mode, u64 flags) = (void *)50;
static long (*const bpf_redirect_map)(void *map, u64 key, u64 flags) = (void *)51;
static long (*const bpf_xdp_adjust_tail)(struct xdp_md *ctx, int delta) = (void *)65;
static long (*const bpf_fib_lookup)(void *ctx, struct fib_lookup *params, int plen, u32 flags) = (void *)69;
static u64 (*const bpf_jiffies64)(void) = (void *)118;
static u64 (*const bpf_ktime_get_boot_ns)(void) = (void *)125;
static void *(*const bpf_ringbuf_reserve)(void *ringbuf, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, u64 flags) = (void *)133;
static long (*const bpf_redirect_neigh)(u32 ifindex, void *params, int plen, u64 flags) = (void *)152;
static long (*const bpf_redirect_peer)(u32 ifindex, u64 flags) = (void *)155;
static u64 (*const bpf_ktime_get_coarse_ns)(void) = (void *)160;
static long (*const bpf_loop)(u32 iterations, void *step, void *ctx, u64 flags) = (void *)181;
static long (*const bpf_xdp_load_bytes)(struct xdp_md *ctx, u32 offset, void *to, u32 len) = (void *)189;

/* bpf_skb_adjust_room */
enum { ADJ_ROOM_NET = 0, ADJ_ROOM_MAC = 1 };
enum {
	ADJ_ROOM_FIXED_GSO = 1 << 0,
	ADJ_ROOM_ENCAP_L3_IPV4 = 1 << 1,
	ADJ_ROOM_ENCAP_L3_IPV6 = 1 << 2,
	ADJ_ROOM_ENCAP_L4_GRE = 1 << 3,
	ADJ_ROOM_ENCAP_L4_UDP = 1 << 4,
	ADJ_ROOM_NO_CSUM_RESET = 1 << 5,
	ADJ_ROOM_ENCAP_L2_ETH = 1 << 6,
};
#define ADJ_ROOM_ENCAP_L2(len) (((u64)(len) & 0xff) << 56)

#define BPF_F_INGRESS 1
