// Package soak interrupts a system until it is believed: `make soak SYSTEM=…`.
//
//	soak.go     the systems, and what is printed of them
//	engine.go   a package's own tests, run as often as the soak asks
//	parts.go    several of those, one after the other
//	counter.go  secure-counter: thousands of seeded power cuts on the real engines, and machines
//	volume.go   cached-volume: killed processes, simulated power cuts, a recorded disk, and a machine whose data disk fails
//	balancer.go lost and late reports of hosts, and the balancer's process killed under connections
//	group.go    interface-group: control planes and clients, flows, and the attachments of VNIs
//	lease.go    quotas under lost messages and restarts, and processes ended on all sides
//	migration.go  moves with faults at every call of a host or the journal, and moves of real guests between real QEMUs
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
