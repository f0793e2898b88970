// Package args turns the shape of a VM into QEMU's command line, and single devices into what QMP's device_add,
// netdev_add and blockdev-add take.
//
// # Purpose
//
// A VM that is started here and one that arrives here must be the same board, down to the address of each device. There
// is one description of each device therefore: it is an argument at the start and a command when it is plugged later.
//
// # Guarantees
//
// Pure: no I/O. The same shape and options give the same arguments, in the same order. Whatever the arguments cannot say
// is refused, not left out: a device that cannot be migrated, an alias for a board. No text of a shape can become a second
// option: names are checked, and everything else is JSON.
//
// Disks are raw, since formats with metadata write after the switch, and have werror=stop and rerror=stop: a write that
// the gateway refuses after a handover stops the guest, which can then go on where it was; anything else hands the guest
// an error for data that is not lost (invariant M1).
//
// # Source
//
// QEMU's qemu-options.hx and QAPI schema; JSON as the value of -netdev needs 7.2, of the others less.
package args
