// Package disk writes the appliance's disk image: a GPT with five partitions.
//
//	ESP-A   96 MiB  FAT32, \EFI\BOOT\BOOTX64.EFI: the image of slot A
//	ESP-B   96 MiB  the same for slot B; a running slot's FAT is never written
//	LEDGER   4 MiB  raw, no file system: what boot/ledger formats
//	STATE  128 MiB  empty; the first boot makes a LUKS2 volume with an ext4 for core's state
//	DATA   the rest empty; the first boot makes a LUKS2 volume, raw space that features are given
//
// Partitions are found by name. Everything is a pure function of the options: GUIDs are derived
// from the partition names, file systems carry no time and no randomness, so two builds give the
// same bytes. Flashing is a copy of this file; two disks of one image in one box therefore have
// equal GUIDs, and only one of them may be attached when the box boots.
//
// The file is sparse: of 768 MiB about twice the size of the UKI and 1 MiB are allocated.
//
// The table and the ext4 (StateTemplate, carried in the initramfs) come from go-diskfs, the FAT from boot/esp, which updates use too. The tests run
// fsck.fat, mtools, e2fsck and sgdisk over the result.
//
// Sources: UEFI specification 2.10, 5.3 (GPT); ext4 disk layout, Documentation/filesystems/ext4.
package disk
