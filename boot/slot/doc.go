// Package slot chooses between the two image slots with what UEFI itself has: no boot loader.
//
// Purpose. Each slot is a partition with one file (boot/esp) and has a boot entry: an EFI_LOAD_OPTION of the form
// HD(its GUID)/\EFI\BOOT\BOOTX64.EFI. The slot in front of BootOrder is the one that was healthy last; an update is
// tried with BootNext, which firmware uses once. So a slot that panics, hangs or is switched off in the middle is
// followed by the one that was good, whatever this program does or fails to do.
//
//	entries.go    engine: which variables to write so that both slots can be booted, and in which order
//	count.go      engine: boots since the last healthy one, and when that is too many
//	option.go     EFI_LOAD_OPTION, read within bounds
//	firmware.go   the engines on Variables
//	efivars.go    Variables on efivarfs
//	device.go     a slot's partition, written and read past the page cache
//
// The count. Init adds one to the variable RatchetBootCount before it does anything else, health sets it to 0, and an
// end that an operator asked for takes this boot's one back; the one boot of a trial is not counted. At 3 the other
// slot is tried, once; from 6 on every boot stops in the recovery console, until one is healthy. Nothing here ever
// restarts a box a fourth time in a row.
//
// Guarantees. What does not differ is not written, since a board's flash wears out. Entries of others stay, behind
// ours. A slot that is bad is in no order. Firmware that ignores BootNext or forgets its variables still starts one
// of the two slots, and the next boot of ours repairs the entries.
//
// Limits. Anybody who can boot the machine can write these variables: they decide what is tried, never what is
// trusted. A hang before the kernel has the watchdog's driver needs a watchdog that the firmware starts.
//
// Concurrency. Init uses it, then core, never both; Firmware has no lock.
//
// Source: UEFI 2.10, 3.1 (boot manager), 10.3 (device paths); docs/reference/boot-protocol.md B4.
package slot
