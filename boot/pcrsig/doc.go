// Package pcrsig is the signed policy of one image: the file in the .pcrsig section of its UKI.
//
// Purpose. A policy key signs, for one image, the policy {PCR 11 is this image's and 12 and 13 are
// untouched, V has no bit above this security version}. A box that was provisioned with that key then
// lets the image write E and have what was sealed, though it was built long after. [Sign] is the
// builder's side, [File.Approve] init's. There is no I/O here.
//
// Way. The section is not measured, as it is made from the measurement. systemd's stub leaves it at
// /.extra/tpm2-pcr-signature.json in the initramfs. Development images hold a second file, for
// PCR 11 = 0, which is what a direct kernel boot without a stub has.
//
// Trust. The file comes from whoever could write the ESP. It is parsed strictly, and a signature counts
// only if it is by a policy key of the image's own, measured, policy. That is for a good explanation:
// what decides is the TPM, which verifies the same signature under the keys that E was made for.
//
// Guarantees. Parse takes at most MaxSize bytes, refuses unknown fields and never panics. The same
// release and keys give the same bytes (RFC 6979), so signed images can be compared between builders.
//
// Format: JSON, fields in the order of File; digests in hexadecimal, signatures in base64 of ASN.1 DER
// (RFC 3279). Source: docs/reference/boot-protocol.md, "Objects"; TCG TPM 2.0 Library 1.59, part 3, 23.16 (PolicyAuthorize).
package pcrsig
