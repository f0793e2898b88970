package hw

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// DataPartition selects the DATA partition of the boot disk, for boxes with one disk. Core adds it to the
// devices; hw itself knows whole disks only.
const DataPartition = "data"

// NotFoundError is returned by Resolve when nothing answers to a selector.
type NotFoundError struct {
	Selector   string
	Candidates []string // ids of supported devices
	// Hint says what is wrong with the selector itself, "" when it is only not there.
	Hint string
}

func (e *NotFoundError) Error() string {
	msg := fmt.Sprintf("no device %s", e.Selector)
	if e.Hint != "" {
		msg += ": " + e.Hint
	}
	if len(e.Candidates) == 0 {
		return msg + "; this box has no supported NIC or disk"
	}
	return msg + "; there are: " + strings.Join(e.Candidates, ", ")
}

// AmbiguousError is returned by Resolve when several devices answer to a selector.
type AmbiguousError struct {
	Selector string
	Matches  []Device
}

func (e *AmbiguousError) Error() string {
	places := make([]string, len(e.Matches))
	for i, d := range e.Matches {
		places[i] = d.Place
	}
	return fmt.Sprintf("%s is %d devices; select one by its place: %s", e.Selector, len(places), strings.Join(places, ", "))
}

// UnsupportedError is returned when the device is there but cannot be used.
type UnsupportedError struct {
	Selector string
	Device   Device // its Why says why
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s cannot be used: %s", e.Selector, e.Device.Why)
}

// Resolve finds the one device that a selector of the configuration means: an id, a place, or
// "file:PATH" for a regular file that stands in for a disk. The error is one of
// *NotFoundError, *AmbiguousError and *UnsupportedError.
func Resolve(devices []Device, selector string) (Device, error) {
	if path, ok := strings.CutPrefix(selector, "file:"); ok {
		return resolveFile(selector, path)
	}
	selector = normal(selector)
	var matches []Device
	for _, d := range devices {
		if d.answers(selector) {
			matches = append(matches, d)
		}
	}
	switch {
	case len(matches) > 1:
		return Device{}, &AmbiguousError{Selector: selector, Matches: matches}
	case len(matches) == 0:
		return Device{}, &NotFoundError{Selector: selector, Candidates: candidates(devices), Hint: hint(selector)}
	case !matches[0].Supported:
		return Device{}, &UnsupportedError{Selector: selector, Device: matches[0]}
	}
	return matches[0], nil
}

// answers compares with everything the device goes by. The serial counts even when another
// name is the id, and even when the id was taken away because a second device has the same:
// two matches are then an ambiguity, which says more than "not found".
func (d Device) answers(selector string) bool {
	function, _, _ := strings.Cut(d.Place, "/")
	return selector == d.ID || selector == d.Place || selector == function ||
		d.Serial != "" && selector == "serial:"+d.Serial ||
		d.MAC != "" && selector == "mac:"+d.MAC
}

// normal lowers what is hexadecimal; serial numbers are left as they are.
func normal(selector string) string {
	for _, prefix := range []string{"mac:", "pci:", "nvme:", "wwn:"} {
		if len(selector) > len(prefix) && strings.EqualFold(selector[:len(prefix)], prefix) {
			return strings.ToLower(selector)
		}
	}
	return selector
}

func candidates(devices []Device) []string {
	var ids []string
	for _, d := range devices {
		if d.Supported {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

func hint(selector string) string {
	switch kind, _, ok := strings.Cut(selector, ":"); {
	case !ok:
		return "names such as eth0 or /dev/sda depend on the order of discovery; use an id (`ratchetctl hw list`)"
	case kind != "mac" && kind != "pci" && kind != "serial" && kind != "nvme" && kind != "wwn":
		return fmt.Sprintf("%q is no kind of selector; use mac:, pci:, serial:, nvme:, wwn: or file:", kind)
	}
	return ""
}

func resolveFile(selector, path string) (Device, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return Device{}, &NotFoundError{Selector: selector, Hint: "create it with its full size first, for example `fallocate -l 1G " + path + "`"}
	}
	d := Device{ID: selector, Place: selector, Kind: Disk, Bus: "file", Model: "file", Node: path}
	switch {
	case err != nil:
		d.Why = err.Error()
	case !info.Mode().IsRegular():
		d.Why = "it is not a regular file"
	default:
		d.Size, d.Supported = uint64(info.Size()), true
		return d, nil
	}
	return Device{}, &UnsupportedError{Selector: selector, Device: d}
}
