// Package catalogue says which PCI functions the appliance can use and what each one needs:
// driver, kernel modules, and the kernel flavours that have them.
//
// The table is configs/hardware.yaml, embedded in the binary, so that it is measured with the
// image and cannot be swapped on a disk. Embedded reads it from table.json, its form for machines
// (go generate ./hw/catalogue). Load is strict: an unknown key, a malformed or a
// repeated id is an error that names its line. A loaded Catalogue never changes and may be
// shared between goroutines.
//
// The ids are not typed from memory: a test holds each of them against testdata/pci-aliases.txt,
// the aliases of the locked Debian kernel's own modules, written by
//
//	go run ./hw/catalogue/aliases DIR-OF-UNPACKED-KERNEL > hw/catalogue/testdata/pci-aliases.txt
package catalogue
