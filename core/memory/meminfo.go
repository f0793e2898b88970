package memory

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Usage is what the kernel says, in bytes.
type Usage struct {
	Total      uint64 // what the kernel manages
	Available  uint64 // what a program can have without swapping
	Compressed uint64 // of what lies in the swap area, before it was compressed
}

// Read asks the kernel below root, "" for the running one.
func Read(root string) (Usage, error) {
	text, err := os.ReadFile(filepath.Join("/", root, "proc/meminfo"))
	if err != nil {
		return Usage{}, fmt.Errorf("read memory: %w", err)
	}
	return Usage{
		Total:      Field(string(text), "MemTotal"),
		Available:  Field(string(text), "MemAvailable"),
		Compressed: Field(string(text), "SwapTotal") - Field(string(text), "SwapFree"),
	}, nil
}

// Field is a line "key: N kB" of a text such as /proc/meminfo or smaps_rollup, in bytes, 0 when there is none.
func Field(text, key string) uint64 {
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		if name != key {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}

// swappedIn counts the pages that had to be fetched back since the machine started.
func swappedIn(vmstat string) uint64 {
	for line := range strings.Lines(vmstat) {
		if count, ok := strings.CutPrefix(line, "pswpin "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(count), 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
