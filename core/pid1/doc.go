// Package pid1 does what the kernel expects of process 1 and nothing else does for core:
// the mounts that init left out, orphans, the signals that mean power off, and the end.
//
// # Orphans
//
// Process 1 inherits every process whose parent has died, and must wait for each. A loop
// around wait4(-1) would also take the exit status of children that os/exec or the plugin
// host wait for themselves. The [Reaper] looks without taking (WNOWAIT), and takes only
// what nobody has claimed for a second.
//
// # The end
//
// SIGTERM and SIGPWR mean power off, SIGINT (which is what ctrl-alt-del becomes) means
// reboot. Core stops its plugins in order and calls [Finish], which does not return.
// Process 1 must never exit, or the kernel panics: [Guard] catches a panic of core and
// keeps the box alive, with its message on the console, until somebody turns it off or it
// restarts by itself.
//
// Nothing here is tied to being process 1 but Setup, Reaper and Finish; on a workstation
// core uses [Signals] alone.
//
// Sources: pid_namespaces(7), reboot(2), waitid(2), signal(7).
package pid1
