// Package soak interrupts the secure counter until it is believed: `make soak`.
//
//	engine.go   thousands of seeded power cuts on the real engines, in processes of package boot/interrupt's tests
//	machine.go  a machine in QEMU whose power fails before a chosen request to its disk or its TPM
//	update.go   updates under UEFI, interrupted anywhere from the first byte on STATE to the healthy boot
//	config.go   configuration attempts and the boots that close them, without UEFI
//
// A machine's disk is that of package powercut: what the guest did not flush is lost, reordered or torn at the cut. The
// request that the cut comes before hangs until QEMU is killed, so that nothing of the machine goes on behind it. Where
// it comes is counted in requests, since a guest under emulation has no speed: the first change of a life is not
// interrupted and says how many there are.
//
// After each cut the same machine is switched on. It must come up released and healthy, by itself, in a bounded number
// of boots, with what it had or what it was given.
package soak
