// Package notify is the server half of sd_notify: the socket a service manager listens on.
//
// Core serves it to its plugins, so that a plugin built on go-systemd behaves the same
// under core as PID 1, under core on a workstation, and under systemd itself. Each datagram
// comes with the kernel's word on who sent it (SO_PASSCRED), so a plugin can only speak
// for itself. Descriptors that come along (FDSTORE) are closed: core keeps the descriptors
// of its plugins anyway.
//
// Source: sd_notify(3), sd_watchdog_enabled(3), unix(7).
package notify
