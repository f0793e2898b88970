// Package keys keeps the keys that a vendor of images signs with.
//
// No key does two jobs: Secure Boot keys say what firmware may start, the TPM policy key says which
// boot may reach a box's secrets, the bundle key says what a box may install, the plugin key whose
// plugins core may run, and the owner key speaks for whoever owns the boxes. Losing one of them
// leaves the others worth something.
//
// A [Ring] is a folder with one file for each [Role]: policy.key is a PEM private key, or one line
// with the URI of a key that lives elsewhere (pkcs11: of RFC 7512, or detached: for a key that only
// people can reach); policy.pub is its public half, which is all that a build needs of the spare.
// Everything that signs takes the [crypto.Signer] of [Ring.Signer] and does not learn where the
// private half is.
//
// [Development] fills the user's own folder on the first build, and such a ring says so of itself
// ever after: a release refuses it.
//
// A Ring is safe for concurrent use; making and rotating keys holds a lock on the folder, so that
// two builds that are both the first one agree.
package keys
