// Package recorded checks a cached volume at every flush of a recording that the kernel made of its disk.
//
// Purpose. A simulated disk shows what the engine asks for; this shows what reaches a real block device through the page
// cache, O_DIRECT and the block layer of the appliance's kernel, and in which order it is made durable.
//
// How. In a guest (package qemu/logwrites) Run drives a real volume on a mapping of the device-mapper target log-writes, which
// writes every request and every flush to a second disk, in the order in which they became durable. Marks in the same
// recording say what had been acknowledged. On the host Check replays it: at each flush the disk as it was then is
// opened by the real engine, with the object store as it was then, and must hold a prefix of the writes that is not
// shorter than what was acknowledged (invariant X2).
//
// Source. drivers/md/dm-log-writes.c and Documentation/admin-guide/device-mapper/log-writes.rst; Josef Bacik's replay-log.
package recorded
