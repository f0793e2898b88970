// Package pki is the appliance's own certificate authority for the management API: one
// CA a box, one server certificate, and client certificates whose organisational unit is
// the caller's role.
//
// The box is not known by a DNS name: it is reached through forwarded ports and by addresses
// that change. Clients therefore pin the CA and verify the fixed name ServerName instead of
// the address they dialled.
//
// A client gets its certificate by enrolment: it makes a key, sends a signing request with a
// one-time token, and the key never leaves it. Tokens live in memory only, so a restart ends
// them. A client certificate is good until it expires; to withdraw all of them, remove the
// authority's directory and enrol again.
//
// Authority and Tokens are safe for concurrent use. Private keys are P-256, in files of mode
// 0600 that are written whole (fsync, rename) or not at all.
package pki
