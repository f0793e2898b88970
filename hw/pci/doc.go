// Package pci reads and steers PCI functions through sysfs: scan, bind one function to one
// driver, unbind it, keep it from being bound, and take its right to bus mastering.
//
// Everything happens below a root directory, so that tests use a fake sysfs tree. Nothing is
// cached: each call reads what the kernel says now. Calls on different functions may run
// concurrently.
//
// Source: Documentation/ABI/testing/sysfs-bus-pci; PCI Local Bus Specification 3.0, 6.2.2
// (Command register).
package pci
