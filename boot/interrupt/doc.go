// Package interrupt cuts the power of a simulated box thousands of times, and holds the code of the real one to what
// it promises. It has tests only.
//
// Purpose. An update, a configuration, a settled slot: each is a dozen writes to a disk, a TPM and the firmware's
// variables, and the power may fail between any two of them, and again while the box recovers. Here a box lives
// through such failures, seeded, at thousands of places that no list of cases names.
//
// What is real: boot.Check with LEDGER, image slots and STATE's LUKS2 header, boot/slot, attempt.Manager,
// core/update's Manager with its own loop, bundles that are signed and verified, and Microsoft's reference TPM. What is
// simulated:
//
//	power_test.go     the switch that everything hangs on: each effect asks it first
//	disk_test.go      a disk whose cache loses, keeps, reorders or tears what was not flushed
//	firmware_test.go  a boot manager with variables, BootNext, BootOrder, the removable path and Secure Boot
//	tpm_test.go       the wire to the TPM
//	image_test.go     images: good ones, and ones that die in each of the ways that an update can
//	box_test.go       a machine from power-on to core; what boot.Main does around boot.Check, in few lines
//	core_test.go      core's half: attempts and updates
//	life_test.go      a seeded life: change something, cut, come up, check, go on with the same box
//	mutant_test.go    boxes that are wrong on purpose, which the check must catch
//
// Time is that of testing/synctest: a trial's deadline and a day of proof pass at once, and in the same order for the
// same seed.
//
// The check. After each interruption the box is switched on until it is healthy, in at most as many boots as the boot
// count allows. Then it runs what it ran before or what it was given, never anything else; its box verdict is
// released; what the ledger says of each slot is what the slot holds; no slot that counts as good is refused by V; the
// configuration is the one before or the one applied; and the slot that runs is first in the firmware's order. A box
// that stops in the recovery console is in order only after as many failed boots as doc.go of boot/slot names.
//
// Limits. One command of a TPM and one variable of the firmware are atomic, as their specifications demand. A sector
// is never torn inside.
//
// Source: docs/reference/boot-protocol.md B2 and B4; "All File Systems Are Not Created Equal" (OSDI 2014) for the model of a disk's cache.
package interrupt
