// Package counter is the adapter to the TPM objects of the secure counter.
//
// Purpose. Three NV indexes make up the counter (BOOT.md, "Objects"):
//
//	C  0x01800A01  counter   attempts ever made; anyone on the box may increment, nobody can lower
//	E  0x01800A02  ordinary  {expected value of C, SHA-256 of the ledger}; written under policy only
//	J  0x01800A03  extend    chain of the digests of all intents
//
// C and J are written with an empty authorisation value: to spoil them only isolates the box.
// E's policy is PolicyOR(PolicyPCR(7, 11 of this image), PolicyCommandCode(NV_WriteLock)): the
// first branch writes and dies with the cap of PCR 11, the second can lock and never write.
//
// Trust. Every read and write goes through an HMAC session salted to the persistent storage root
// key, and authorises under a Name that this package computes from constants. An index with other
// attributes, or an answer changed on the bus, fails in the HMAC; nothing is believed because
// TPM2_NV_ReadPublic said so. Passwords are used only where the value is empty and public. Callers
// compare Snapshot.SRK with the Name recorded at provisioning.
//
// Lifetime. Open a Chip on a raw transport, use it from one goroutine, Close it. A Chip holds one
// session; every other session ends with the command it was made for, also when that command fails.
//
// Guarantees. No command is sent twice unless the TPM answered that it has not begun (RETRY,
// YIELDED, TESTING, NV_RATE, NV_UNAVAILABLE), and then a bounded number of times. Commands counts
// everything that was sent.
//
// Source: TCG TPM 2.0 Library 1.59, parts 1 (19 authorisations, 37 NV) and 3.
package counter
