// Package vault decides whose passphrase opens STATE and DATA: the engine behind step g of the boot.
//
// Purpose. A box has one secret S of 32 random bytes. The TPM holds it and gives it back to an approved
// image before the cap, in this box's state of Secure Boot (counter.Recall). Everything else is derived
// from S with HKDF-SHA256:
//
//	"ratchet volume UUID"   the passphrase of a volume's first keyslot
//	"ratchet core 1"        core's key, which also authorises raising V
//
// Each volume has a second keyslot for the recovery key, without dashes and in capitals, so that any
// machine with cryptsetup opens it; and a token "ratchet-tpm2" with S, encrypted under the recovery key.
// With that, a new TPM or another state of Secure Boot gets the same S, and no keyslot has to change.
//
// Open is for every boot: one read of the TPM, both volumes. Bind is for provisioning and for recovery,
// with the recovery key: it makes volumes where there are none, and gives the TPM the secret of those
// that are there. DATA from another box opens with that box's recovery key and gets a keyslot for this
// one's S.
//
// Guarantees. Bind can be repeated after a power cut at any point, and never formats a volume that the
// recovery key opens. A volume whose header was exchanged does not open, since S comes from the TPM and
// only the owner can put one there. Passphrases and keys are returned to the caller and kept nowhere.
//
// Concurrency. One goroutine; Open uses a second for DATA while it lasts.
//
// Source: docs/reference/boot-protocol.md, "Objects" and B1 g; RFC 5869 (HKDF).
package vault
