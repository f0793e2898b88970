// Package host loads plugins and keeps them running: every plugin a process of its own,
// found again by nobody but core, given what it wants and nothing else.
//
// # Parts
//
//	Host      all plugins of the box: Apply, Status, Invoke, Shutdown
//	unit      one plugin: a goroutine that feeds a supervise.Machine and does what it says
//	attempt   one try to serve: a process from spawn to its end, active or spare
//	process   the process itself: go-plugin client, control socket, Host service, log pipe
//	Resources who opens disks and NICs (the box's adapter over package hw, or [Local] alone)
//
// # Rules
//
// RPC is for control only. Data moves through descriptors: core opens devices and listening
// sockets, sends duplicates to the process and keeps its own, so that the next process
// gets the same socket, memory and disk lock and clients are never refused.
//
// Nothing a plugin does or fails to do holds up another plugin or core: each unit has its
// own goroutine, every call to a plugin has a deadline, every queue a bound.
//
// A process's end is seen by waiting for it (pidfd), not by polling; the next one is
// started, or the spare told to serve, before the old one is tidied away.
//
// # Concurrency
//
// All methods of Host may be called at any time from any goroutine. Apply calls wait for
// each other.
//
// See docs/explanation/plugin-host.md.
package host
