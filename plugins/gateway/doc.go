// Package gateway is the storage gateway plugin: cached volumes over NBD, and over iSCSI and NVMe/TCP by a companion, a process
// of its own (package target).
//
// Each entry of `volumes` is one volume on one disk, with one object store behind it. The plugin
// brings up every volume on its own: one whose disk is not ours to use, or whose store does not
// answer, waits and says why, and the others serve.
//
// # States of a volume here
//
//	starting     the disk is being read
//	needs-claim  the disk holds something foreign; nothing is written to it
//	waiting      a blank disk waits for its store, or the disk, the store's directory or the key's file is not there
//	then those of package volume: opening, attached, detached, fenced, failed
//
// # Lifetime
//
// Validate and Describe have no side effects. Start opens the volumes whose disks are formatted before
// it returns, so that Ready means serving; the rest follows in the background. Stop lets
// requests in flight finish; acknowledged writes are durable all along, so a kill is as good.
//
// # Rooms
//
// package volume is the engine, upload what leaves it, remote the protocol with the store, nbd the server, attach who may
// write, target the kernel's iSCSI and NVMe/TCP in front of it; api and ctl are the plugin's own management calls and commands.
// The log that a volume writes to is plugins/internal/log.
package gateway
