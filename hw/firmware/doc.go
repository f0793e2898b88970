// Package firmware reads and replaces the firmware of devices.
//
// Purpose. Firmware is what init reads back in quarantine and what core flashes in an attempt: one
// small interface over what devices offer. Its drivers are devlink (NICs), nvme (admin commands) and
// hw/sim (a device in a file, for tests that need a device whose firmware can be replaced at all).
// Opening one is hw.System.Firmware; this package holds the interface and its words.
//
// Order of an update. Flash stores the image where the device does not run from, if the device has
// such a place; Activate makes it the one to run, at once or at the next reset of the device, which
// on an appliance is the next boot; ReadBack then says what runs. A driver never decides whether the
// firmware is good: that is the verdict's.
//
// Guarantees. Flash does not return before the device has taken all of the image. An image that the
// device refuses is ErrImage and changed nothing that runs. When ctx ends Flash stops at the next step
// that can be stopped. What a device says is outside input: versions are cut to printable characters
// and to 100 bytes.
//
// Concurrency. A Firmware is used by one goroutine; two of them on one device at a time are up to the
// caller to prevent.
//
// Source: NVM Express Base Specification 1.4, 5.11, 5.12, 5.14.1.3; Linux
// Documentation/networking/devlink/devlink-flash.rst and devlink-info.rst.
package firmware
