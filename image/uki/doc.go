// Package uki builds and reads unified kernel images: one EFI program that holds the systemd
// stub, the kernel, its command line and the initramfs.
//
// [Build] appends sections to Debian's stub; nothing else in the stub is changed but the counts
// and sizes its header must agree with. The result is a pure function of its input.
// [PCR11] computes what the stub will extend into PCR 11 when the image is started, so that a
// policy can name the value before any box has booted it.
//
// [Parse] reads PE files from outside (the stub, an image to verify); it accepts only what it
// can prove to lie inside the file.
//
// Sources: UAPI group, "Unified Kernel Image" (UKI.1) and "Linux TPM PCR registry"; Microsoft PE
// format; systemd 252 src/boot/efi/stub.c and src/fundamental/tpm-pcr.c for the order of measurement.
package uki
