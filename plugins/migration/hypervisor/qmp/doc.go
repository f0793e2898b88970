// Package qmp is the hypervisor port for bare QEMU: one VM behind one QMP monitor.
//
// # Purpose
//
// Client is a thin client of the QEMU Machine Protocol: greeting, capabilities, commands with
// ids, events. Host puts the port's words over it. No library for it can be had here, and what is
// needed of the protocol is small.
//
// # Lifetime and concurrency
//
// Dial returns a Client whose reader runs until the connection ends or Close. Do may be called
// from many goroutines; replies are matched by id, so a command whose caller gave up does not
// disturb the next.
//
// # Guarantees
//
// Lines are bounded (MaxLine), and so are the events that wait to be received: a receiver that
// falls behind loses the connection and starts over with a fresh list, instead of believing an
// old state. A monitor serves one client at a time: QEMU lets a second one connect and says
// nothing, so a missing greeting within the time of ctx is reported as that.
//
// # Traps of QEMU 7.2
//
// query-migrate may say completed before its figures are there; cont before a destination is
// complete is lost; cont of a source after migration is not refused. Callers see to that; the
// client adds no meaning of its own.
//
// # Source
//
// QEMU docs/interop/qmp-spec.txt and the reference of its QAPI schema.
package qmp
