// Package attempt is the run-time half of the secure counter: core opens attempts, init closes them.
//
// Purpose. Whatever changes what the box is — its configuration, a device's firmware, an admitted
// device — is an attempt. Open writes the intent into LEDGER's ring and syncs it, extends J,
// increments C, and only then lets the caller act. Nothing here can write E: it is locked and PCR 11
// is capped, so the attempt stays open until the next boot compares and closes it.
//
// Power may fail after each step. After the intent: nothing counted, the next attempt takes the same
// number. After J: Open finds J one intent ahead, and counts that intent as an attempt that did
// nothing before it goes on. After C: open, and closed at the next boot by what the target reads.
//
// Before each attempt the verdict's own engine checks that C, E, J and LEDGER still fit together, so
// an attempt is never stacked on a counter that somebody else moved (ErrNotInOrder).
//
// Lifetime and concurrency. One Manager for the life of core; its methods may be called from any
// goroutine and run one at a time. At most one attempt starts in a second and 1,000 are open
// (ErrTooMany): a loop that applies configurations must not wear out the TPM's NV memory.
//
// Source: docs/reference/boot-protocol.md B2.
package attempt
