// Package initramfs packs the appliance's root file system: cpio archives in zstd frames.
//
// The whole system runs from memory, so the archive is everything there is: the one binary as
// /init, the policy and configuration baked into the image, CA certificates, and the kernel
// modules the hardware catalogue asks for. Being one section of the UKI it is signed and
// measured as a whole; there is no root file system to mount, and none to fail.
//
// It is written as two archives behind each other, [Modules] and [System], which the kernel
// unpacks in turn. The first changes only with the kernel and the catalogue, so a build after
// a change of code takes its compressed form from the [Cache] and packs the binary alone.
//
// Everything here is a pure function of its input: no times, no owners, files in a fixed order.
//
// Source: Documentation/driver-api/early-userspace/buffer-format.rst (concatenated archives);
// lib/decompress_unzstd.c (window of at most 128 MiB).
package initramfs
