// Package bpf loads the dataplane's programs into the kernel, keeps them there, and runs them for tests.
//
// What must outlive the process is pinned below a folder of a bpffs (OpenPins): maps, and the links that hold
// programs on interfaces. Loading takes pinned maps over instead of making new ones, and attaching replaces the
// program in a pinned link in one step, so a killed, restarted or upgraded plugin neither loses an entry nor
// lets a packet pass by. The folder's name carries the layout version of what is in it (invariants D3, X1):
// another layout is another folder, never a reinterpretation of bytes.
//
// Maps that user space writes often are BPF_F_MMAPABLE arrays, shared as Go slices (Shared): a write is a store,
// not a system call, and programs and user space meet with atomic operations on the same words. Whoever refills
// memory that programs may still be reading calls Grace first.
//
// What a kernel can do is tried, not derived from its version: XDP in the driver, else generic; TCX, else a
// clsact filter. Attachment.Mode says which it became.
//
// The programs are in the folders below, one package each: C source, the object that bpf2go made of it, and the
// generated Go. `go generate` in such a folder makes them anew, byte for byte. Headers are our own, in headers.
//
// Everything here may be used from several goroutines; a Shared slice is shared memory, with the care that takes.
// Sources: bpf(2), Documentation/bpf in the kernel's tree, tc-bpf(8), membarrier(2).
package bpf
