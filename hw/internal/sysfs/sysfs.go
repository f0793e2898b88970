// Package sysfs reads the small text files in which the kernel shows the attributes of a device.
package sysfs

import (
	"os"
	"path/filepath"
	"strings"
)

// Attribute returns the text of the attribute at the joined path, without the line's end. It is
// "" when there is none: which attributes a device has depends on its driver, and a device may
// leave between two reads, so a missing one is an answer and not an error.
func Attribute(path ...string) string {
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
