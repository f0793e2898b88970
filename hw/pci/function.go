package pci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Function is one PCI function as sysfs shows it.
type Function struct {
	Address string // "0000:00:04.0"
	Vendor  string // four lower-case hex digits
	Device  string
	Class   string // six lower-case hex digits: "010802"
	Driver  string // bound driver, "" when none
	// Override is the only driver that may bind, "" when any may.
	Override string

	dir string // the function's own directory, symbolic links resolved
}

// Dir is the function's directory in sysfs.
func (f Function) Dir() string { return f.dir }

// Bus is the bus tree below one root directory, "/" outside tests.
type Bus struct{ Root string }

func (b Bus) path(elem ...string) string {
	return filepath.Join(append([]string{b.Root, "/sys/bus/pci"}, elem...)...)
}

// Scan lists all functions in order of address.
func (b Bus) Scan() ([]Function, error) {
	entries, err := os.ReadDir(b.path("devices")) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a machine without PCI
	}
	if err != nil {
		return nil, fmt.Errorf("scan PCI bus: %w", err)
	}
	functions := make([]Function, 0, len(entries))
	for _, e := range entries {
		f, err := b.Get(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // unplugged while we looked
		}
		if err != nil {
			return nil, err
		}
		functions = append(functions, f)
	}
	return functions, nil
}

// Get reads one function. The error wraps fs.ErrNotExist when there is none at the address.
func (b Bus) Get(address string) (Function, error) {
	if !ValidAddress(address) {
		return Function{}, fmt.Errorf("read PCI function %q: not an address such as 0000:00:04.0: %w", address, fs.ErrNotExist)
	}
	dir, err := filepath.EvalSymlinks(b.path("devices", address))
	if err != nil {
		return Function{}, fmt.Errorf("read PCI function: %w", err)
	}
	f := Function{Address: address, dir: dir}
	for name, field := range map[string]*string{"vendor": &f.Vendor, "device": &f.Device, "class": &f.Class} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return Function{}, fmt.Errorf("read PCI function: %w", err)
		}
		*field = strings.TrimPrefix(strings.TrimSpace(string(data)), "0x")
	}
	if link, err := os.Readlink(filepath.Join(dir, "driver")); err == nil {
		f.Driver = filepath.Base(link)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "driver_override")); err == nil {
		if s := strings.TrimSpace(string(data)); s != "(null)" {
			f.Override = s
		}
	}
	return f, nil
}

// ValidAddress says whether s has the form domain:bus:device.function, in lower case.
func ValidAddress(s string) bool {
	const form = "0000:00:00.0"
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case form[i] != '0':
			if c != form[i] {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}
