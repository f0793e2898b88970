// Package verdict decides what of the box may be used.
//
// Purpose. Judge takes everything that init read before any driver was bound and decides on the box;
// Settle takes what the devices read back as in quarantine and decides on each, closes the open
// attempts and says what the next ledger is. Both are pure functions: no I/O, no clock, no order of
// discovery; the same facts give the same words.
//
// Validated and Accepted are the two ways out of isolation, for the recovery console and for signed
// requests: the first keeps to what E vouches for, the second takes the box as it is.
//
// States of the box. Unprovisioned (no counter yet), clean (C = E), closing (C = E + n with n chained
// intents), and isolated for one of the reasons below. Nothing but an intact chain from E to C ever
// releases; every branch that is not understood isolates.
//
// Codes of the box: clean closing provisioned image-changed validated accepted tpm-unused | unprovisioned tpm-owned
// tpm-absent tpm-lockout tpm-forged tpm-name tpm-error tpm-cleared tpm-not-reset tpm-rolled-back srk-differs
// counter-missing expected-missing counter-moved intent-missing intent-unchained too-many-attempts
// ledger-missing ledger-corrupt ledger-newer ledger-factory ledger-differs image-unsigned
// image-input image-revoked image-differs secure-boot-changed image-changed-open config-unreadable;
// and from init itself: vault-shut provision-failed close-failed
// cap-failed init-failed. Codes of devices: ok closed admitted unchecked | unknown swapped
// baseline-unconfirmed admitted-otherwise | missing unreadable unsupported firmware-changed
// attempt-unfinished duplicate box-isolated quarantine-nic; and while the box runs: returned |
// admitted-at-boot | unproven. Codes of image slots: ok closed baseline | slot-unfinished slot-bad
// slot-changed.
//
// Guarantees. A verdict has a code that does not change between versions, a reason for people and
// what to type next. Report is the form in which core and ratchetctl see all of it.
//
// Source: docs/reference/boot-protocol.md B1–B3 and its attack table.
package verdict
