// Command aliases prints the PCI aliases of the catalogue's modules out of an unpacked Debian
// kernel package: what the drivers themselves say they can drive.
//
// Usage: aliases DIR
//
// Output, sorted: "module vendor:device" for an exact id, "module class cccccc" (with "*" for
// open digits) for a class, "module vendor:*" for all of a vendor.
package main

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/configs"
	"github.com/ratchetos/ratchet/hw/catalogue"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: aliases DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "aliases:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	cat, err := catalogue.Load(configs.Hardware)
	if err != nil {
		return err
	}
	want := cat.Modules("full")
	var out []string
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, isModule := strings.CutSuffix(filepath.Base(path), ".ko")
		name = strings.ReplaceAll(name, "-", "_")
		if err != nil || !isModule || !slices.Contains(want, name) {
			return err
		}
		info, err := modinfo(path)
		for entry := range strings.SplitSeq(info, "\x00") {
			if alias, ok := strings.CutPrefix(entry, "alias=pci:"); ok {
				out = append(out, name+" "+describe(alias))
			}
		}
		return err
	})
	slices.Sort(out)
	for _, line := range slices.Compact(out) {
		fmt.Println(line)
	}
	return err
}

func modinfo(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("open module %s: %w", path, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return "", nil
	}
	data, err := section.Data()
	return string(data), err
}

// describe turns "v00008086d000010D3sv*sd*bc*sc*i*" into "8086:10d3", and "v*d*sv*sd*bc01sc08i02*"
// into "class 010802".
func describe(alias string) string {
	field := func(key, end string) string {
		_, rest, _ := strings.Cut(alias, key)
		value, _, _ := strings.Cut(rest, end)
		return strings.ToLower(strings.TrimPrefix(value, "0000"))
	}
	vendor, device := field("v", "d"), field("d", "sv")
	if vendor != "*" {
		return vendor + ":" + device
	}
	class := field("bc", "sc") + field("sc", "i") + strings.TrimSuffix(field("i", "\x00"), "*")
	return "class " + class
}
