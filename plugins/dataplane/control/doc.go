// Package control is the channel between a box and the hosts that its dataplane serves.
//
// A host is enrolled once: the box's own certificate authority signs a certificate with the host's name, and the
// operator carries the file over. The host then keeps one TLS 1.3 connection to the box, mutually authenticated,
// for calls: a request, a reply, many in flight, each as long as both sides wait (long-poll). What is small,
// frequent and soon stale goes beside it by UDP on the same port number, as sealed datagrams.
//
// # Sealed datagrams
//
// Both ends derive one AES-256-GCM key for each direction and a key id from the TLS session by its exporter
// (RFC 8446 section 7.5, RFC 5705), so a datagram proves its host without a handshake of its own:
//
//	0        1      2      4         12          20
//	version  kind   zero   key id    sequence    sealed payload and tag; the header is authenticated too
//
// The sequence number is the nonce and grows with each datagram of a direction. The receiver keeps a sliding window
// of [windowSize] numbers (RFC 4303 section 3.4.3 has the idea): a repeated or older datagram is counted and
// dropped. A reply has the kind's high bit set and begins with the sequence number that it answers.
//
// The key outlives its TCP connection by [keyGrace], so a broken connection costs no datagram. A box that does not
// know a key any more (its plugin was restarted) says so in a datagram that carries nothing but the key's id; the host
// takes it as a hint to join again, at most once a second, so that forging the hint gains little.
//
// # Guarantees
//
// A handler sees a datagram at most once and only if the named host made it. A call is carried out at most once; when
// its connection breaks in the middle the caller does not know whether it was, so methods are to be idempotent.
// Everything is bounded: hosts, connections that shake hands, calls in flight, sizes. No wall clock takes part: the
// certificates have no end (RFC 5280 section 4.1.2.5) and revocation is by name, so a clock that jumps changes nothing.
//
// A Server and a Client are safe for use by many goroutines. Their handlers are set before Serve and Run.
package control
