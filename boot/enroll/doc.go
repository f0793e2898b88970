// Package enroll writes an image's Secure Boot keys into the firmware of the machine it runs on.
//
// Purpose. A board comes with its maker's keys, or with Microsoft's. Whoever clears them in the
// firmware's setup puts it into setup mode, where it takes new ones: db, the certificates that may
// sign what boots; KEK, who may change db; and PK, who may change KEK. Writing PK ends setup mode,
// so it is last: a power cut before leaves a machine that still starts anything.
//
//	lists.go    EFI_SIGNATURE_LIST, what the variables hold
//	update.go   EFI_VARIABLE_AUTHENTICATION_2, what is written to them
//	plan.go     engine: what would be written, and what speaks against it
//	system.go   adapter: the image's updates, and devices whose firmware is a program that Secure Boot asks a signature of
//
// An image carries its three updates ready signed (image/keys): no private key is on the box, and
// nothing of what is written comes from the disk. With KeepFirmware the certificates that the board
// came with (dbDefault) are kept beside ours, with its list of revoked ones (dbxDefault); such a db
// cannot be signed beforehand, and firmware in setup mode does not ask for it.
//
// Guarantees. Nothing is written outside setup mode or before everything was read and parsed. Apply
// may be repeated after a failure. Pure but for the Variables it is given.
//
// Limits. Secure Boot starts with the next boot, and PCR 7 changes with it: enroll before a box is
// provisioned, or its secrets have to be bound again with the recovery key.
//
// Source: UEFI 2.10, 8.2 (authenticated variables), 32.3 and 32.4 (Secure Boot's variables).
package enroll
