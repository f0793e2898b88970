// Package xdr encodes and decodes the few XDR types that libvirt's protocol is made of (RFC 4506): 32 and 64 bit
// integers, doubles, strings, opaque data, optional values and lists.
//
// # Guarantees
//
// Pure, no reflection, safe for outside bytes: a [Decoder] never reads past its input, never allocates more than the
// input is long, and holds every list and string to a bound that the caller names. The first error sticks; values after
// it are zero, so a caller checks once, at the end.
package xdr
