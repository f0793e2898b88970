// Package remote is the calls of libvirt's remote protocol that a manager of migrations makes, one typed method each.
//
// # Lifetime and concurrency
//
// A [Conn] is an open hypervisor connection (virConnectOpen) on a wire of package rpc; its methods may be called from many
// goroutines. The daemon ties things to a connection: the job of a migration is dropped, and a VM that is still incoming
// is destroyed, when the connection that began it ends. Package libvirt therefore gives each move connections of its own.
//
// # Guarantees
//
// Every list and string of an answer is bounded. A daemon's refusal is an *rpc.Error. An event that nobody takes ends the
// connection rather than being lost in silence.
//
// Source: libvirt's src/remote/remote_protocol.x and qemu_protocol.x, of which numbers and layouts never change.
package remote
