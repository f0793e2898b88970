/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The keyed hash of a flow.
 *
 * Multilinear hashing (Dietzfelbinger 1996; Lemire and Kaser 2014): the sum of key[i] * word[i] over 32-bit
 * words with random 64-bit keys is strongly universal in its upper 32 bits. Two sums with independent keys make
 * 64 bits. Whoever does not know the key finds colliding flows only by chance.
 *
 * The words are the client's address, the ports and a tag of the service: its identity, not its number,
 * so that two boxes with one key agree. */
#pragma once

#include "types.h"

#define HASH_WORDS 7 /* constant, ports, tag, address 0..3 */

struct hash_key {
	u64 line[HASH_WORDS];
	u64 print[HASH_WORDS];
};

static inline u64 hash_join(u64 line, u64 print)
{
	return (line & 0xffffffff00000000ULL) | (print >> 32);
}

static inline u64 flow_hash(const volatile struct hash_key *k, const be32 client[4], u32 ports, u32 tag)
{
	u64 a = k->line[0] + k->line[1] * ports + k->line[2] * tag;
	u64 b = k->print[0] + k->print[1] * ports + k->print[2] * tag;

	for (int i = 0; i < 4; i++) {
		a += k->line[3 + i] * client[i];
		b += k->print[3 + i] * client[i];
	}
	return hash_join(a, b);
}

/* Index below n that a 32-bit hash names: a multiplication in place of a division. */
static inline u32 hash_index(u32 hash, u32 n)
{
	return (u32)(((u64)hash * n) >> 32);
}

/* The same over the whole 5-tuple, for those who want to begin with the flow before they know its service.
 * Words go in pairs, (key + word) * (key + word): half as many multiplications, as strong ("multilinear-HM").
 * Go has the same function (balancer/table/hash.go). */
#define TUPLE_WORDS 11 /* constant, ports, protocol, then client and local address by turns */

struct tuple_key {
	u64 line[TUPLE_WORDS];
	u64 print[TUPLE_WORDS];
};

static inline u64 tuple_sum(const volatile u64 *k, const be32 *client, const be32 *local, u32 ports, u32 protocol, int words)
{
	u64 sum = k[0] + (k[1] + ports) * (k[2] + protocol);

	for (int i = 0; i < words; i++)
		sum += (k[3 + 2 * i] + client[i]) * (k[4 + 2 * i] + local[i]);
	return sum;
}

/* The bits that choose a line. The sum alone maps a client's consecutive ports, and neighbouring clients, to arithmetic
 * progressions, which one key in some hundred lays onto few lines. The product of other bits of it breaks them up. */
static inline u64 tuple_line(u64 sum)
{
	sum ^= sum >> 21;
	return sum * 0x9e3779b97f4a7c15ULL;
}

/* words is a constant: 1 for IPv4, 4 for IPv6. */
static inline u64 tuple_hash(const volatile struct tuple_key *k, const be32 *client, const be32 *local, u32 ports, u32 protocol, int words)
{
	return hash_join(tuple_line(tuple_sum(k->line, client, local, ports, protocol, words)),
			 tuple_sum(k->print, client, local, ports, protocol, words));
}
