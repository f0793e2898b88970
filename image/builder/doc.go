// Package builder makes an appliance image: binary, kernel, initramfs, UKI, signature, disk.
//
// [Options.Build] runs without privilege, writes everything into one folder and describes it in
// image.json, the [Manifest]. Steps that do not wait for each other run side by side. The unsigned
// UKI and the disk depend only on the source tree and the options, never on time or place; so does
// the signed UKI for one key.
//
// [Inspect] and [Verify] read a UKI or a disk image back, from whatever source, and share nothing
// with the writing side but the file formats.
//
// The command in ../main.go is a thin shell around this package; tests and benchmarks call it too.
package builder
