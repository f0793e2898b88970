// Package tree decides what the kernel's targets look like in configfs: it turns exports into the directories, links and
// attributes of LIO and nvmet, holds them against those that are there, and says what to write.
//
// # Model
//
// A [Node] is a directory, a link or an attribute; [Desired] makes the nodes of a set of [Backed] exports in the order in
// which they can be made. [Plan] compares them with a [Snapshot] and returns the operations that lead from one to the
// other: nothing when both agree, so that a reconciliation after a restart of the process is no interruption.
// What somebody else has made in the two directories is removed: the box has no other owner of them.
//
// # Order
//
// Taking away comes first, and from the outside in: portal groups and namespaces are disabled, which ends their
// sessions, then links go, then directories, deepest first. The kernel refuses any other order. Making goes the other
// way, and what lets clients in – the enable of a portal group, the link from a port to a subsystem – is last.
//
// What the kernel refuses of one export is that export's: [Carry] goes on with the others.
//
// Some attributes can only be set on a new object (the device of a backstore, a serial number). If one of them differs,
// the whole export is taken down and made anew: half an identity would be worse than an interruption.
//
// # Concurrency
//
// Functions of values; no I/O.
//
// Sources: Documentation/target/, drivers/target/target_core_configfs.c, drivers/target/iscsi/iscsi_target_configfs.c
// and drivers/nvme/target/configfs.c of Linux 6.1.
package tree
