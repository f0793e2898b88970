// Package luks reads and writes LUKS2 headers: the on-disk format that holds the keys of STATE and DATA.
//
// Purpose. init opens its volumes without a C library, and any Debian machine opens them with cryptsetup
// and the recovery key. This package knows the format only; boot/devmapper maps the data, boot/vault.go
// decides whose passphrase goes where. A volume that it makes looks like this:
//
//	0        header: binary part and JSON, 16 KiB, checksummed, with a sequence number
//	16 KiB   the second copy of the header
//	32 KiB   keyslots, 252 KiB each: the volume key, split over 4,000 stripes and encrypted
//	2 MiB    data: aes-xts-plain64 with a 512-bit volume key, sectors of 4 KiB
//
// Trust. Nothing authenticates a header: whoever writes the disk writes it. What is read is therefore held
// to the one scheme above. A segment or keyslot with another cipher is refused, so that no header can talk
// the box into writing its secrets in clear ("cipher_null"); so are counts that would keep the box busy. A
// volume is believed because it opens: only who knows a passphrase can make a keyslot that this passphrase
// opens.
//
// Passphrases carry at least 160 random bits, so a keyslot needs no stretching: PBKDF2 with the least
// count the format allows. Argon2 would guard nothing here and could not be afforded on a box with 1 GiB
// that must boot in seconds. Keyslots of other kinds, which an operator may have added, are left alone and
// not tried.
//
// Guarantees. A change becomes valid with the first whole header that has the next sequence number; before
// it the old header is whole, and the keyslot it names still there. The second copy is written and synced
// first, then the first: power may fail anywhere.
//
// Concurrency. A Header is used by one goroutine.
//
// Source: LUKS2 On-Disk Format Specification 1.1; for the anti-forensic splitter and keyslot areas the
// LUKS1 specification 1.2.3, 2.4.
package luks
