// Package powercut is a disk that loses what was not flushed when the power fails.
//
// Purpose. Killing QEMU keeps the host's page cache, so that everything the guest wrote is still there: the kind
// of power cut that finds no bugs. This disk has a volatile cache of its own, as drives do. At the cut each sector
// that was written since the last flush reads as any one of its versions since then, or as before the first of
// them, chosen by a seed: writes are dropped, reordered and torn.
//
// Lifetime. Open a disk image, Serve it to one machine over NBD, kill the machine, Cut. The file then holds what the
// next power-on finds.
//
// Guarantees. What a completed flush (or write with FUA) covered survives every cut; nothing else need. The cache is
// bounded: a full one is destaged whole, which a drive may do at any time. The same seed and the same writes give
// the same loss.
//
// Sector. 512 bytes, the unit that drives write atomically (NVMe base specification 2.0, AWUPF; ATA/ATAPI-8 4.23).
package powercut
