// Package memory gives back, once the appliance is up, the memory that only its start needed.
//
// # What it does
//
//	tune.go     kernel settings: no reserve for the DMA zone, swap that is as cheap as a fault
//	zram.go     a swap area in compressed memory, on a machine that is short of it
//	header.go   the swap area's first page
//	reclaim.go  asks the kernel, a little at a time, to put what is cold there; the engine that says when to stop
//	meminfo.go  what the kernel says there is
//	trim.go     what a process's own heap gives back, core's and each plugin's
//	thrift.go   an idle process collects its garbage early
//
// The appliance runs from a file system in memory. Its one binary is read once while it starts, most of it never
// again, and so are the pages of package initialisation: cold, but there is no disk to drop them to. Compressed they
// take little more than half.
//
// # What is never compressed
//
// The memory of plugins: their control groups have memory.swap.max 0 (package sandbox), so that no request of the
// gateway's data path waits for its buffers, index or heap. Pages of the binary belong to all processes and may be
// taken; those in use are seen to be used and stay, and one that comes back costs a decompression of 4 KiB, never a
// disk. Nothing is locked (mlock): a page of code that a plugin has not run for long is the case this exists for.
//
// # Lifetime, concurrency, guarantees
//
// Trim runs in each process for as long as it lives. Settle runs once, after the start, in a goroutine of core's, and
// Keep after it; Settle needs half a minute and takes one step at a time, each bounded. It fails nothing: a kernel
// without a module or a file leaves the box as it was, and the error says which. Nothing here is undone: the swap area
// lives until the machine is off.
//
// Sources: Documentation/admin-guide/blockdev/zram.rst, sysctl/vm.rst, cgroup-v2.rst (memory.reclaim),
// mm/swapfile.c and include/linux/swap.h (the header); the stepwise reclaim that watches for refaults follows Weiner
// et al., "TMO: Transparent Memory Offloading in Datacenters", ASPLOS 2022.
package memory
