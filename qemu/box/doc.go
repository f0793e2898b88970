// Package box boots a built image as an appliance and talks to it as an operator does: it reads the console,
// logs in with the one-time token printed there, and runs the real ratchetctl against the forwarded API.
// `make run`, the fifteen system tests and the benches stand on it.
//
// A Box is one power-on of one machine. What persists lies in Options.Dir: the disk (a copy of the built one), the
// TPM's state, the UEFI variables, the client's credentials. Boot again with the same folder and it is the same
// machine, power cycled. The image in build/image is never written.
package box
