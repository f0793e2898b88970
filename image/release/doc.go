// Package release makes what is published: one folder with everything that somebody needs to put a
// version on a machine, to update one, and to check where it comes from.
//
//	ratchet-VERSION-FLAVOUR.efi         the signed UKI
//	ratchet-VERSION-FLAVOUR.img.zst     the disk image
//	ratchet-VERSION-FLAVOUR.bundle      the update
//	ratchet-VERSION-FLAVOUR.spdx.json   what is inside (SPDX 2.3)
//	ratchet-VERSION-FLAVOUR.image.json  digests, PCR 11, kernel package, modules
//	*.crt, *.pub                        public halves of the keys: the folder is a ring (image/keys) without secrets
//	PK.auth, KEK.auth, db.auth          the certificates, for firmware that enrolls from files
//	NOTES.md                            the version's part of the changelog
//	SHA256SUMS, SHA256SUMS.sig          all of the above, signed by the bundle key
//
// Guarantees. A release has no development policy, and no development keys unless the caller insists;
// both are checked on the files that were written, not on the intention. The same source, options and
// public keys give the same bytes in everything but signatures: those of keys in files are
// deterministic too, a token's are not. The folder appears whole or not at all.
//
// Make may end with [keys.Wanted] when a signature has to come from elsewhere; calling it again with
// the signature attached goes on.
//
// Source: docs/howto/make-a-release.md.
package release
