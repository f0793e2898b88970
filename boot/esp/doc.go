// Package esp lays out, writes and reads back an image slot: an EFI system partition that holds one file,
// \EFI\BOOT\BOOTX64.EFI.
//
// Purpose. A slot is never mounted. Whoever fills one – the builder of the factory image, an update, a reflash, a
// rescue stick – writes it with Write, and init reads it with Read before a verdict, so that no filesystem driver
// runs on bytes that somebody else may have written. The layout is a pure function of Volume and the file's
// length: Read makes it again and compares every byte of it, and calls anything else foreign.
//
// Layout. FAT32 with sectors of 512 bytes: 32 reserved sectors, two FATs, the folders \, \EFI and \EFI\BOOT in
// clusters 2 to 4, the file in one run from cluster 5. No times, no free space that matters.
//
// Guarantees. A slot that was being written when the power failed does not start: Write takes the boot sectors away
// first and puts them back last, with a Sync between where w has one. Read's digest covers the file, its layout
// every byte that leads a reader to it; what lies in free clusters is not looked at.
//
// Concurrency. Functions without state; one writer or many readers of a partition is the caller's business.
//
// Source: Microsoft FAT32 File System Specification 1.03; UEFI 2.10, 13.3 and 3.5.1.1.
package esp
