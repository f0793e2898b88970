// Package counter is the adapter to the TPM objects of the secure counter.
//
// Purpose. Six NV indexes make up the counter and what hangs on it (docs/reference/boot-protocol.md, "Objects"):
//
//	C  0x01800A01  counter   attempts ever made; anyone on the box may increment, nobody can lower
//	E  0x01800A02  ordinary  {expected value of C, SHA-256 of the ledger}; written under policy only
//	J  0x01800A03  extend    chain of the digests of all intents
//	V  0x01800A04  bits      security version: bit n set refuses every image below n
//	K  0x01800A05  ordinary  never written; its authorisation value is derived from core's key
//	S  0x01800A06  ordinary  the box's secret; written by the owner, read under the full policy
//
// C and J are written with an empty authorisation value: to spoil them only isolates the box. V is
// written under PolicySecret(K): to spoil it would revoke every image.
//
// The full policy (policy.go) is PolicyPCR(11 of this image, 12 = 13 = 0), PolicyNV(V, no bit above the
// image's version), PolicyAuthorize(policy key), PolicyOR(active key, spare), PolicyPCR(7). Its first
// two steps are an Approval, which each image brings; the rest is a box's Policy, fixed at
// provisioning. S has the full policy, E has PolicyOR(full,
// PolicyCommandCode(NV_WriteLock)): the first branch dies with the cap of PCR 11, the second can lock
// and never write.
//
// Trust. Every read and write goes through an HMAC session salted to the persistent storage root
// key, and authorises under a Name that this package computes from constants. An index with other
// attributes, or an answer changed on the bus, fails in the HMAC; nothing is believed because
// TPM2_NV_ReadPublic said so. Passwords are used only where the value is empty and public. Callers
// compare Snapshot.SRK with the Name recorded at provisioning.
//
// Lifetime. Open a Chip on a raw transport, use it from one goroutine, Close it. A Chip holds one HMAC
// session and one policy session (session.go); a failure under policy ends the latter.
//
// Guarantees. No command is sent twice unless the TPM answered that it has not begun (RETRY,
// YIELDED, TESTING, NV_RATE, NV_UNAVAILABLE), and then a bounded number of times. Commands counts
// everything that was sent.
//
// Source: TCG TPM 2.0 Library 1.59, parts 1 (19 authorisations, 37 NV) and 3.
package counter
