// Package demo is `make run`: the image is built and booted as hardware would boot it – UEFI, Secure Boot, a TPM – and
// does the main job end to end, with real clients on the host: data goes through a cached volume over NBD, all of it
// is uploaded to an S3 server, the plugin is restarted, and what is read back is compared byte by byte.
//
// It prints what it saw and how long each step took, and fails at the first thing that is not as promised.
package demo
