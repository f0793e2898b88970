// Package rpc is a client of the wire that libvirt's daemons speak: calls, events, streams and keepalive over one
// connection.
//
// # Lifetime and concurrency
//
// A [Conn] owns its net.Conn and two goroutines: one reads, one asks for signs of life. It ends when the daemon closes
// it, breaks the protocol or says nothing for too long, and at Close; [Conn.Err] says which. Calls may be made from many
// goroutines; their answers come in any order. A call whose context ends is given up here, not at the daemon, which has no
// way to be told: what it does then must be looked at afterwards.
//
// # Guarantees
//
// Frames, strings and streams are bounded, also against a daemon that lies about lengths: memory follows the bytes that
// arrived, not those announced. Nobody who is slow holds up others: an event goes to a function that must not block, a
// stream that is not read ends with [ErrSlow].
//
// Source: libvirt's src/rpc/virnetprotocol.x and virkeepaliveprotocol.x. The protocol is called internal there, and has
// been kept compatible since version 0.9 (2011), because old clients talk to new daemons.
package rpc
