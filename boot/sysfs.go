package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sysfs implements Disks on the running system, or on a tree under root.
type sysfs struct{ root string }

var _ Disks = sysfs{}

// Partitions implements Disks with what the kernel read from the partition table.
func (s sysfs) Partitions(node string) (map[string]string, error) {
	disk := filepath.Base(node)
	files, err := filepath.Glob(filepath.Join(s.root, "sys/class/block", disk, disk+"*", "uevent"))
	if err != nil {
		return nil, fmt.Errorf("list partitions of %s: %w", node, err)
	}
	parts := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("list partitions of %s: %w", node, err)
		}
		var name, dev string
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch key {
			case "PARTNAME":
				name = value
			case "DEVNAME":
				dev = value
			}
		}
		if name != "" && dev != "" && parts[name] == "" {
			parts[name] = "/dev/" + dev
		}
	}
	return parts, nil
}

// Holds implements Disks.
func (s sysfs) Holds(node, guid string) (string, bool, error) {
	b, err := os.ReadFile(filepath.Join(s.root, "sys/class/block", filepath.Base(node), "queue/logical_block_size"))
	if err != nil {
		return "", false, fmt.Errorf("read sector size of %s: %w", node, err)
	}
	sector, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return "", false, fmt.Errorf("read sector size of %s: %w", node, err)
	}
	f, err := os.Open(filepath.Join(s.root, node))
	if err != nil {
		return "", false, fmt.Errorf("look for the boot partition: %w", err)
	}
	defer f.Close()
	parts, err := readGPT(f, sector)
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", node, err)
	}
	for _, p := range parts {
		if sameGUID(p.guid, guid) {
			return p.name, true, nil
		}
	}
	return "", false, nil
}
