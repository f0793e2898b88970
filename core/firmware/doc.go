// Package firmware updates the firmware of devices as attempts of the secure counter.
//
// Purpose. Flash takes a signed package and a device: it verifies the package, compares it with the
// device, reads back what runs, opens the attempt, and only then touches the device; what runs
// afterwards is read back and recorded. Until the attempt is open nothing has changed and nothing is
// counted, so a wrong file costs nothing. Nothing is closed here: the next boot reads the device back
// in quarantine and releases it if it is what the attempt led from or to.
//
// Recover brings a device back that the verdict keeps isolated because its firmware is not what was
// expected: to a package, or without one to the firmware that the ledger knows if another slot of the
// device still holds it. It binds the device in quarantine – link down, disk not opened – and takes
// its driver again. The device is released by the next boot, not by Recover.
//
// Devices that share their firmware (namespaces of one NVMe controller, ports of one card) are in one
// update: each gets an attempt, because each reads back differently afterwards.
//
// Guarantees. One update at a time. An update does not end with the caller that asked for it, but with
// Options.Limit; End lets it, before the machine ends. A package is never flashed to a device it does not name. Two updates of one device need
// a boot in between if the first takes effect at a reset.
//
// Concurrency. All methods may be called from any goroutine.
//
// Source: docs/reference/boot-protocol.md B2.
package firmware
