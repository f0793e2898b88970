// Package keys keeps the keys that a vendor of images signs with.
//
// No key does two jobs: Secure Boot keys say what firmware may start, the TPM policy key says which
// boot may reach a box's secrets, the bundle key says what a box may install, the plugin key whose
// plugins core may run, and the owner key speaks for whoever owns the boxes. Losing one of them
// leaves the others worth something.
//
// A [Ring] is a folder with one file for each [Role]: policy.key is a PEM private key, or one line
// with the pkcs11: URI (RFC 7512) of a key on a token; policy.pub is its public half, which is all
// that a build needs of the spare. Where the private half is out of reach of the machine, signing
// asks for the signature with [Wanted], people carry it, and [Attach] takes it. Everything that
// signs takes the [crypto.Signer] of [Ring.Signer] and does not learn which of these it is.
//
// [Ring.Rotate] replaces a key and keeps what boxes in the field still believe; [Ring.Trusted] is
// what goes into an image.
//
// [Development] fills the user's own folder on the first build, and such a ring says so of itself
// ever after: a release refuses it.
//
// A Ring is safe for concurrent use; making and rotating keys holds a lock on the folder, so that
// two builds that are both the first one agree.
package keys
