// Package enrol gives hosts their certificates: the dataplane's agents and the hypervisor hosts of migration.
//
// # Purpose
//
// A box has its own authority, one for each use, in its state store. Enrolling a host prints one file for it: its
// certificate, its key and the authority. Both sides then know each other by TLS 1.3 and need no other secret.
//
// # Guarantees
//
// The key of a host is in its file and nowhere else. The newest file of a host is the only one that is Valid. The
// certificates have no end and are checked at a fixed time, so that a box without a clock serves its hosts; what ends a
// file is Revoke, or enrolling again.
//
// # Concurrency
//
// An Authority may be used from many goroutines. An Identity is a value that nobody changes.
package enrol
