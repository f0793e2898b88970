package enroll

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ratchetos/ratchet/hw/pci"
)

// Dir is where an image carries its updates, from the root of the initramfs.
const Dir = "etc/ratchet/secureboot"

// ReadFiles reads the updates of the running image; those that are not there stay nil.
func ReadFiles(root string) (f Files, err error) {
	for name, file := range map[string]*[]byte{"PK.auth": &f.PK, "KEK.auth": &f.KEK, "db.auth": &f.DB} {
		b, err := os.ReadFile(filepath.Join(root, Dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Files{}, fmt.Errorf("read key update: %w", err)
		}
		*file = b
	}
	return f, nil
}

// ROMs lists the PCI functions that have an option ROM: a program for the firmware, which Secure
// Boot runs only when db vouches for it. The ROM itself is not read: that switches the device's
// decoder, and some lose their registers over it.
func ROMs(bus pci.Bus) ([]string, error) {
	functions, err := bus.Scan()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, f := range functions {
		if _, err := os.Stat(filepath.Join(f.Dir(), "rom")); err == nil {
			all = append(all, fmt.Sprintf("%s (%s, %s:%s)", f.Address, kind(f.Class), f.Vendor, f.Device))
		}
	}
	return all, nil
}

// kind is the base class of a function in a word.
func kind(class string) string {
	if len(class) >= 2 {
		switch class[:2] {
		case "01":
			return "storage"
		case "02":
			return "network"
		case "03":
			return "display"
		}
	}
	return "class " + class
}
