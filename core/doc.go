// Package core is the applet that runs the appliance after the verdict: it composes the plugin host, the
// configuration, the hardware inventory, the management network, the clock and the API into one program.
//
// It starts in one of two places. On the box init executes it in its own process (PID 1) and hands it the boot
// report and the configuration in sealed memory files; on a workstation `ratchet core --config FILE` runs it under a
// shell or systemd, without hardware and, with `tpm: none`, without a counter.
//
// The parts do not know each other; this package is the only one that knows them all:
//
//	handover.go   what init left behind
//	appliance.go  start and end, in order
//	management.go the management network, and the clock behind it
//	listen.go     the API, and where it listens
//	configure.go  check, apply, confirm: the only place that changes the configuration
//	backend*.go   the API's view (api.Backend)
//	console.go    what an operator sees on the serial console
//
// A part that fails at start is reported and the others run: no network, no clock, a wrong section or a plugin that
// dies never keep the box from coming up.
package core
