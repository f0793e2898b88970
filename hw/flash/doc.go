// Package flash writes a disk image onto a disk, as a technician does once in a box's life.
//
// Purpose. An image is smaller than the disk it goes to, mostly holes, and the same for every box. Write puts only
// its data on the disk, makes sure that nothing of what was there before shows through the holes, gives the disk a
// partition table that fits it, with GUIDs of its own and DATA grown to the end, and reads everything back from the
// medium.
//
// Refusals. Look says what a disk is and everything that speaks against overwriting it: it is mounted, swapped on,
// part of an array or mapping, read-only, or too small. The kernel is asked again by opening it exclusively.
//
// Order. The old table is destroyed first and the new one written last: a disk whose flashing was cut off does not
// boot, and says nothing false.
//
// Sources: UEFI 2.10, 5.3 (GPT); Linux Documentation/block, BLKZEROOUT; lseek(2), SEEK_DATA.
package flash
