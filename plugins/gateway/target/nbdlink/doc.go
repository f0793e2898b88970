// Package nbdlink attaches volumes to the kernel as block devices: it is the client's half of NBD up to the point where
// the kernel takes over.
//
// # Sequence
//
// [Dial] connects to the gateway's socket and shakes hands for one export. The connected socket then goes to the
// kernel's nbd driver by generic netlink, which makes /dev/nbdX of it ([Control.Connect]); from there on requests go
// from the kernel to the gateway and back without this process.
//
// # When the connection breaks
//
// The device stays for [DeadConn]: requests wait in the kernel. The driver says which device has lost its connection
// (LINK_DEAD, [Control.Dead]); whoever owns the device dials again and gives the kernel the new socket
// ([Control.Reconnect]). Two traps were measured in a guest with Linux 6.1:
//
//   - A new socket for a connection whose end the driver has not noticed yet is dropped, and success is reported. So it
//     is given after LINK_DEAD, never on mere suspicion; and at the start of this process, when an event may have
//     been missed, events are listened to first.
//   - Requests that the dead process had taken and not answered are sent again only when [RequestTimeout] has passed for
//     them. A planned restart has none: the gateway hands the socket itself to its next process.
//
// # Ownership
//
// A device carries the name of its volume as backend identifier, which the driver demands again with every socket. It
// outlives this process: [Find] finds it by that name.
//
// Sources: NetworkBlockDevice/nbd doc/proto.md; include/uapi/linux/nbd-netlink.h and drivers/block/nbd.c of Linux 6.1.
package nbdlink
