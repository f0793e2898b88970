// Package request is what the owner of a box may ask of its init from afar.
//
// Purpose. Init carries out at the next boot what nothing that runs later can: it writes E. A request
// is signed by one of the owner keys in the image's policy, reaches the box over the API or is typed
// at the recovery console, waits in LEDGER and is read, verified and carried out before the cap.
//
// Form. One line of text without blanks, so that it survives a serial console:
//
//	ratchet-request-1.<payload>.<signature>
//
// both in unpadded base64url. The payload is the JSON of Request, the signature ECDSA P-256 in ASN.1
// over SHA-256 of "ratchet request 1\n" and the payload's exact bytes.
//
// Guarantees. A request is for one box and one value of its counter, and init raises the counter before
// it acts: it is carried out at most once, and not at all after anything else was attempted. Parse never
// panics and takes no more than MaxText bytes. There is no expiry: before the network is up a box has no
// clock that anybody should believe; another attempt on the box ends a request that was never used.
//
// Concurrency. Values only; nothing is kept.
//
// Source: docs/reference/boot-protocol.md "Recovery" and B3.
package request
