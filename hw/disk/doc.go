// Package disk reads what a disk is, tells whether somebody else's data is on it, and opens it
// for the one who may have it.
//
//   - Read gives serial, names, model, firmware and size out of sysfs.
//   - Signature is a pure function over an io.ReaderAt: it says what foreign content starts or
//     ends there (partition table, filesystem, swap, LUKS, LVM, RAID, …). A disk with a
//     signature is never written; Claim with erase is what an operator orders to change that.
//   - Open opens a block device for handing out: for reading and writing, past the page cache,
//     and exclusively.
//
// Nothing here keeps state or starts goroutines.
//
// Sources: the on-disk formats' own headers (ext4.wiki, xfs_format.h, btrfs ctree.h, Microsoft
// FAT and NTFS, LUKS2 specification, LVM2 label.h, md_p.h, ZFS vdev_impl.h, ECMA-119, UEFI 2.10
// chapter 5); util-linux libblkid for the order of checks.
package disk
