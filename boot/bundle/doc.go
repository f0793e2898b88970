// Package bundle is the signed file that an update comes in.
//
// Purpose. Everything that a box must know before it touches a slot stands in front: the manifest and its signature
// are the first two members, so a bundle for another box, of another signer, or too old is refused after a few
// kilobytes. Update, reflash from a stick or the quarantine NIC, and rescue read it with the same code.
//
// Form. A POSIX (ustar) tar of exactly these regular files, in this order, and nothing after its end marker:
//
//	manifest.json   Manifest, at most 64 KiB
//	manifest.sig    ECDSA P-256 over SHA-256 of the manifest's bytes, ASN.1 DER, by a bundle key
//	sbom.spdx.json  what is inside, SPDX 2.3
//	uki.efi         the image
//
// `tar xf` unpacks it and `openssl dgst -sha256 -verify bundle.pub -signature manifest.sig manifest.json` checks it.
// The bundle key only says what a vendor publishes. It starts nothing: the UKI carries its Secure Boot signature
// and its TPM policy signature, each by a key of its own.
//
// Guarantees. Open verifies before it parses. The readers of SBOM and UKI report io.EOF only after as many bytes as
// the manifest says with the digest that it says; a truncated, altered or longer file ends in ErrDamaged. No input
// makes the package panic or hold more than the manifest, the SBOM and one block.
//
// Concurrency. A Reader is one goroutine's.
//
// Source: POSIX.1-2017 pax, ustar interchange format; docs/reference/boot-protocol.md B4.
package bundle
