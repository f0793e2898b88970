// Package nbd serves volumes over the Network Block Device protocol.
//
// # Purpose
//
// It is the gateway's hot path: fixed newstyle handshake with GO, INFO, LIST, STARTTLS,
// structured replies and base:allocation, then READ, WRITE, FLUSH, FUA, TRIM, WRITE_ZEROES,
// CACHE and BLOCK_STATUS on any number of connections per volume (CAN_MULTI_CONN).
//
// # Lifetime
//
// A Server is a value with options. Serve runs on one listener until its context ends; then it
// takes no new requests, finishes those in flight, sends their replies and closes. It does
// not answer ESHUTDOWN by itself: clients that reconnect (nbd.ko, QEMU) repeat an unanswered
// request on the next connection, but hand an ESHUTDOWN to the application as an I/O error.
// With HandOn and Adopt the connections themselves go from one server to the next, at a boundary between two requests:
// what had been asked is answered by the first, what has been received and not looked at goes along.
//
// # Concurrency
//
// One goroutine a connection reads requests. What the backend can do at once (FastReader,
// FastWriter) is done there, and the replies leave in one write when no further request is
// buffered. Everything that may wait is parked in a goroutine of its own and answered out of
// order. Parked requests are limited per connection in number and bytes, and a request counts
// until its reply has left, so a client that does not read its replies stops only itself.
//
// # Guarantees
//
// A reply to a write is sent after Backend.WriteAt returned; FLUSH on any connection covers
// every write acknowledged on any (invariant S6) because the backend is shared; a miss never
// delays a hit of the same connection (S7). Bad input ends its own connection or gets an
// error reply, nothing else. No request is larger than MaxRequest, no option larger than MaxOption.
//
// # Layout
//
// wire.go names the numbers; handshake.go and request.go are the pure parsers and reply
// encoders; negotiate.go, conn.go and transmit.go drive them over a connection; outbox.go
// batches what is sent.
//
// # Source
//
// NetworkBlockDevice/nbd, doc/proto.md; TLS as in its FORCEDTLS mode.
package nbd
