// Package supervise decides what happens to one plugin: when its process is started, who
// takes over when it dies, how long to wait before the next try.
//
// It is an engine without I/O. The host (package core/host) feeds a [Machine] with what
// happened and the time, and carries out the actions it answers with, in their order; what
// they lead to comes back as the next input. Nothing here blocks, sleeps or starts a
// goroutine, and the same inputs always give the same actions. A Machine is not safe for
// concurrent use.
//
// # States
//
//	Absent    known by name, not enabled
//	Verified  enabled; no process yet
//	Starting  a process is on its way to serving
//	Ready     serves
//	Degraded  serves, and says that something is wrong
//	Draining  was told to stop; finishes what is in flight
//	Stopped   was enabled and is not any more
//	Failed    has no serving process; the next try is at Deadline, or never (Refused)
//	Isolated  the boot verdict keeps hardware back: no process, ever
//
// # Restarts
//
// A process that dies is replaced at once, by the warm spare if one stands by. From the
// fourth failure in a row (Policy.Burst) on there is a delay, which doubles from Policy.Base
// up to Policy.Max; a minute of service (Policy.ResetAfter) forgives everything. There is no last try: a box
// nobody is near must come back by itself when the remote, the disk or the link does.
//
// Sources: systemd.service(5) (Restart, WatchdogSec), Erlang/OTP's supervisor, and the
// measurements in docs/explanation/plugin-host.md.
package supervise
