// Package ledger reads and writes the LEDGER partition: what the box is expected to be, and what
// was tried on it since.
//
// Purpose. The partition is raw, 4 MiB, and has no filesystem, so that it can be read before any
// verdict without running a filesystem's code on bytes that an attacker may have written. It is not
// trusted: E in the TPM holds the SHA-256 of the ledger record, J chains the intents, and this
// package only says what is there.
//
// Layout (offsets in bytes, integers little endian):
//
//	0x000000  superblock    4 KiB; a copy is at 0x3FF000, one of them is enough
//	0x010000  ledger slot 0 256 KiB
//	0x050000  ledger slot 1 256 KiB
//	0x0A0000  request       32 KiB, what a signed request from outside asks init to do
//	0x0A8000  outcome       32 KiB, what init made of the last one
//	0x100000  ring          1,024 intents of 1 KiB; intent n is entry n mod 1,024
//	0x200000  config slot 0 512 KiB + 40 bytes
//	0x300000  config slot 1 512 KiB + 40 bytes
//
// Each of them holds one record, or zeros:
//
//	 0  8  magic "RATCHET" and the kind: S superblock, L ledger, I intent, C configuration,
//	      R request, O outcome
//	 8  2  version of the payload, 1
//	10  2  zero
//	12  4  compatible features: a reader that does not know one may go on
//	16  4  incompatible features: it must stop (ErrNewer)
//	20  4  length of the payload
//	24  8  number: of the ledger record, of the intent (the value of C it leads to), of the write
//	32  4  zero
//	36  4  CRC-32C of bytes 0-35 and the payload
//
// Payloads are lists of integers, 32-byte digests and strings (one length byte, then at most 255
// bytes), in the order of the fields of Ledger and Intent; lists start with a 2-byte count. There is
// one encoding of a value: what decodes, encodes to the same bytes. Digests of records (E, J) cover
// header and payload. A request and its outcome are text, and outside of what E vouches for: a request
// is believed for its signature.
//
// Guarantees. Ledger record n goes to slot n mod 2, so the record before it stays until the next
// write. Every write is synced and read back before it counts. Nothing is ever reordered or deleted:
// intents up to E's counter are history and are overwritten 1,024 attempts later.
//
// Concurrency. A Store has no lock and no state but its Medium; init uses it, then core, never both.
//
// Source: docs/reference/boot-protocol.md "Objects"; docs/reference/invariants.md X1.
package ledger
