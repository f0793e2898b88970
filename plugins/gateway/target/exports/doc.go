// Package exports is what the configuration says about targets: which volume is exported over iSCSI or NVMe/TCP, to
// whom, and under which names and identities.
//
// Identities. Initiators know a disk by its WWN (SCSI) or UUID (NVMe), not by its address: multipath, VMFS and cluster
// software take two disks with one identity for one disk, and one disk with two for two. All of them are therefore
// derived from the volume's UUID ([VolumeUUID]), which depends on nothing but where the volume lives in its store: it
// is the same after a restart, on new hardware, and after the volume has moved to another box.
//
// A volume has one export at most. The kernel would allow more – nvmet opens a device that LIO holds – but each has
// caches, reservations and locks of its own, so that two clients would both believe to be alone.
//
// The package is pure: values in, values and diagnostics out.
//
// Sources: RFC 7143 (iSCSI names, CHAP), SPC-4 7.8.6.6 (NAA designators) and drivers/target/target_core_spc.c (how LIO
// makes one of the unit serial number), NVM Express base specification 2.0, 4.5 (NQN) and 4.6 (NGUID, UUID).
package exports
