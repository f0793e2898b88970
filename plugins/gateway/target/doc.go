// Package target exports volumes over iSCSI and NVMe/TCP, with the kernel's own targets LIO and nvmet.
//
//	initiator ──► LIO or nvmet ──► /dev/nbdX ──► unix socket ──► NBD server of the gateway ──► volume
//	              (kernel)         (kernel)                      (another process)
//
// # Why a process of its own
//
// Three things need privileges that the gateway, which strangers talk to, must not have: the nbd driver's netlink
// commands (CAP_SYS_ADMIN), files of configfs, which belong to root (CAP_DAC_OVERRIDE), and block devices by their path,
// which is a thing of /dev. A plugin sees no /dev and gets neither capability; core could do all of it, but what these
// writes make the kernel do can take as long as a request of an initiator does, and process 1 must not wait for that.
// So there is a companion (Descriptor.companion_of): it reads the gateway's section, has the capabilities, and does
// nothing else. No client talks to it, no data goes through it, and it parses nothing from outside but the answer of the
// gateway's NBD server. Landlock lets it write below its two directories of configfs and its own of STATE; seccomp keeps
// it from mounts, modules, namespaces and other processes, CAP_SYS_ADMIN or not. If it dies, initiators notice nothing.
//
// It needs nothing of core at run time either: the socket to the gateway is made as any client makes one, so that the
// gateway hands it to its own next process when a restart is planned, and the kernel does not notice.
//
// # States of an export
//
//	waiting       the gateway does not serve the volume (yet); nothing is exported
//	exported      clients can use it
//	reconnecting  the gateway's process died; requests wait in the kernel until the next one has taken over
//	failed        the kernel refuses the export, the others go on; tried again, with the reason in the table
//
// # Guarantees
//
//   - A volume has one device, and a device one export: nvmet would open a device that LIO holds.
//   - A client that outlives the gateway's process is never told that a flush succeeded for writes that vanished (S5):
//     on the socket of targets a write is answered when it is durable, and the kernel repeats what was not answered.
//   - Identities – WWN, serial number, NGUID, UUID – come from the volume ([exports.VolumeUUID]) and never change.
//   - Persistent reservations that initiators want kept (APTPL) are kept on STATE and given back to the kernel before
//     the disk is exported again. If they cannot be read it is not, until somebody clears them.
//   - What is in the kernel when the process starts is kept if it is as configured. After a stop that nobody takes over
//     from, nothing is left.
//
// # Rooms
//
// exports is the configuration, tree the engine that plans configfs, configfs its adapter, nbdlink the way to the
// kernel's block device, loopback what makes a process safe to serve its own kernel.
//
// See docs/explanation/targets.md.
package target
