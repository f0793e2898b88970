// Package nbd serves volumes over the Network Block Device protocol.
//
// # Purpose
//
// It is the gateway's hot path: fixed newstyle handshake with GO, INFO, LIST, STARTTLS,
// structured replies and two metadata contexts, then READ, WRITE, FLUSH, FUA, TRIM, WRITE_ZEROES,
// CACHE and BLOCK_STATUS on any number of connections per volume (CAN_MULTI_CONN).
//
// # Lifetime
//
// A Server is a value with options. Serve runs on one listener until its context ends; then it
// takes no new requests, finishes those in flight, sends their replies and closes. It does not wait for long where nothing
// moves: such a connection is closed. It does not answer ESHUTDOWN by itself: clients that reconnect (nbd.ko, QEMU) repeat
// an unanswered request on the next connection, but hand an ESHUTDOWN to the application as an I/O error.
// With HandOn and Adopt the other connections themselves go from one server to the next, at a boundary between two
// requests: what had been asked is answered by the first, what has been received and not looked at goes along, but for
// a spill, which is answered, too.
//
// # Concurrency
//
// One goroutine a connection reads requests. What the backend can do at once (FastReader,
// FastWriter) is done there, and the replies leave in one write when no further request is
// buffered. Everything that may wait is parked in a goroutine of its own and answered out of
// order. The FLUSH of a client that has one request under way at a time is carried out by the reader (lone.go), for nobody
// waits behind it; when that was a mistake, the client is parked again for long. Parked requests are limited per connection in number and bytes, and a request counts
// until its reply has left, so a client that does not read its replies stops only itself. While the reader waits for room
// it does not see the client leave, so the socket is watched then: what waits for a client that has gone is given up. TCP
// brings the end of a connection behind its data only, and these when there is a window for them: so they are taken off the
// socket meanwhile, into a spill, which the reader consumes afterwards. Not seen is the end of a client that has more under
// way than spill and window take, and in TLS of one that has more than the window takes, until the reader gets there.
//
// # Bounds
//
// 1,024 connections; a handshake has ten seconds in all, however its bytes are spread; 128 parked requests and 64 MiB
// of their data, read, written or extents, a connection, 256 MiB over all of a listener; 16 MiB of spill a connection, 64 MiB
// over all of a listener. A WRITE that does not fit the reader's buffer, or has FUA,
// takes its memory when its header has come; that of a piece as long as the backend takes one after the other. While
// requests wait for memory, a client that takes nothing of its replies for half a minute, or sends nothing of such a WRITE,
// loses its connection. An idle connection has a buffer of 8 KiB, which grows when bursts fill it.
//
// # Size
//
// A backend may change its size at any time. Requests are held against the size of now, so one who learned of it in
// another way (the kernel by NBD_ATTR_SIZE_BYTES) may use what is new at once. The protocol has no message for it: a connected
// client goes on with the size it was told, and learns the new one when it connects again or asks with INFO on
// another connection.
//
// # Contexts
//
// base:allocation is the protocol's. ratchet:state says where data is, in the bits of State: 1 local, 2 dirty (not in
// the object store yet), 4 remote, 8 zero; as in  nbdinfo --map=ratchet:state URI.
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
// encoders, contexts.go what BLOCK_STATUS answers; negotiate.go, server.go, transmit.go, write.go and park.go drive them over
// a connection; lone.go knows clients that wait for each reply, and crew.go serves those that commit, by way of poll.go, which
// is epoll(7), and link.go, which lends it their sockets; hangup.go sees a client leave that is not read from, spill.go takes
// what it sent meanwhile; outbox.go batches what is sent, budget.go and pressure.go keep memory in bounds; admission.go asks
// whether a connection may write, handon.go gives connections to the next process.
//
// # Source
//
// NetworkBlockDevice/nbd, doc/proto.md; TLS as in its FORCEDTLS mode.
package nbd
