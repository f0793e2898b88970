// Package hw finds, names, binds and isolates the NICs and disks of the box.
//
// A device has one stable id that survives reboots and does not depend on the order of
// discovery: NICs "mac:52:54:00:12:34:56", disks "serial:<serial>" (or "nvme:<eui>",
// "wwn:<wwn>"), and every device also answers to its place, "pci:0000:00:04.0". Disks behind a
// controller have "/" and their position behind it: the namespace on NVMe ("/1"), the port on
// AHCI ("/0"), channel:target:lun on SCSI ("/0:0:0"), the hub path on USB ("/1-2"). A selector in
// the configuration is an id, a place, or on a workstation "file:<path>" for a file that stands
// in for a disk. Two devices that claim the same id both lose it and go by their places: a
// serial number is the device's own word.
//
// # Use
//
// init calls Freeze before anything else, so that the kernel binds nothing by itself, then
// BindStorage for the controller of the boot disk and HideOthers for what else is behind it, and
// after the verdict Bind or Isolate for each of Functions. Core calls Inventory and Resolve. On a workstation Freeze is not called,
// and Bind finds that the drivers are there.
//
// Functions lists what the PCI bus has, bound or not; nothing is opened. Bind loads the modules
// of the catalogue's entry, binds exactly that function and waits, bounded by its context and by
// a limit for each kind of bus, until what is behind it has been announced. NIC links stay down.
//
// The files of modules lie in memory. DiscardModules removes, after the start, those that will not be read again;
// on a machine without PCI slots a driver that the start did not need cannot be loaded later.
//
// # Concurrency
//
// A System may be used by several goroutines; Bind on different functions runs concurrently,
// and that is how to keep the sum of all scans short. A System remembers what it read of each
// device when it was bound: a NIC that moved to another network namespace has left this
// one's sysfs, but not the inventory.
//
// # Limits
//
// A driver that is built into the kernel has bound before init runs. Functions shows it as
// Driver before any Bind; on the cloud kernel this is the case for NVMe, and isolation of such a
// device begins late. The catalogue (package hw/catalogue) says which.
//
// Sources: Documentation/ABI/testing/sysfs-bus-pci, -bus-usb, -class-net; docs/reference/boot-protocol.md "Isolation on Linux".
package hw
