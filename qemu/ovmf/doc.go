// Package ovmf prepares UEFI firmware for virtual machines: it finds Debian's OVMF build and enrols
// Secure Boot keys into a copy of its variable store, offline and without running the firmware.
//
// A variable store is the flash image OVMF keeps its UEFI variables in: a firmware volume header
// (UEFI PI 1.7, volume 3, section 3.2), then an authenticated variable store (EDK II,
// MdeModulePkg/Include/Guid/VariableFormat.h) in which every change is appended and the older copy is marked
// deleted. Parse reads one, Set and Delete change it the way the firmware does, Bytes gives it back.
//
// Enroll writes PK, KEK, db and the two switches that turn verification on, all with one certificate. That is
// enough for a machine that must run what we sign and refuse everything else. The result depends on nothing but
// its inputs: the same template and certificate give the same bytes.
//
// A Store is not safe for concurrent use. Nothing here trusts its input; the parser is fuzzed.
package ovmf
