/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Why a packet was not forwarded. Every drop counts as one of these; the Go side reads the names from the
 * object's BTF, so this list is the only one. Numbers never change: add at the end. */
#pragma once

enum reason {
	REASON_NONE = 0,
	/* handed to the kernel's own stack */
	REASON_PASS_NOT_IP,
	REASON_PASS_NO_VIP,
	REASON_PASS_LOCAL, /* to a VIP, but not traffic of it: echo, neighbour discovery */
	/* dropped: malformed */
	REASON_TRUNCATED,
	REASON_BAD_IP,
	REASON_BAD_CHECKSUM,
	REASON_BAD_L4,
	REASON_BAD_FLAGS,
	REASON_BAD_SOURCE,
	REASON_BAD_EXTENSION,
	REASON_BAD_ICMP,
	/* dropped: nowhere to go */
	REASON_NO_BACKEND,
	REASON_EXHAUSTED,
	REASON_TABLE_FULL,
	REASON_RACE, /* two CPUs opened the same flow; the client's repetition decides */
	REASON_FRAGMENT,
	REASON_TOO_BIG,
	REASON_NO_ROUTE,
	REASON_NO_ROOM,
	/* answered by the balancer itself */
	REASON_RESET_SENT,
	REASON_TOO_BIG_SENT,
	REASON_LIMITED, /* an answer that its rate limit withheld */
	/* tunnels, on the receiving side */
	REASON_BAD_TUNNEL,
	REASON_BAD_OUTER,
	REASON_BAD_INNER,
	/* not packets: events the balancer counts beside them */
	REASON_ADOPTED,    /* a flow without entry, in the middle of its life */
	REASON_EVICTED,    /* a half-open flow gave way to a new one */
	REASON_OVERFLOWED, /* a flow went to the overflow table */
	REASON_EVENT_LOST, /* the ring of events was full */
	REASON_PROBED,     /* a new flow went past its first choice */
	REASON_COUNT,
};
