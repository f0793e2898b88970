/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Deliberate breaks of the invariants, for the tests that must notice them. They are in an object of their own
 * (package lb/mutant, which no product code imports); in the product's object MUTANT is the constant 0. */
#pragma once

#include "types.h"

enum mutant {
	MUTANT_NONE = 0,
	MUTANT_CREDIT_NOT_ATOMIC, /* D1: read, decide, write */
	MUTANT_CREDIT_KEPT,       /* D1: unfinished flows return nothing */
	MUTANT_STALE_REPORT,      /* D1: the report's TTL is ignored */
	MUTANT_SYN_REPEATS,       /* D1, D2: a repeated SYN is a new flow */
	MUTANT_EVICT_ANY,         /* D2: established entries are victims too */
	MUTANT_ACK_EVICTS,        /* D2: a packet without SYN takes any entry's place */
	MUTANT_NO_OVERFLOW,       /* D2: what has no slot is forgotten */
	MUTANT_BLIND_STORE,       /* D2: entries are stored, not compared and swapped */
	MUTANT_NO_GENERATION,     /* a removed backend's entries live on */
};

#ifdef MUTANTS
const volatile u32 mutant_on = 0;
const volatile enum mutant mutant_kinds = MUTANT_NONE; /* brings the enum into the object's types */
#define MUTANT(name) (mutant_on == MUTANT_##name)
#else
#define MUTANT(name) 0
#endif
