package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/boot/verdict"
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
	parts, err := s.table(node)
	if err != nil {
		return "", false, err
	}
	for _, p := range parts {
		if sameGUID(p.guid, guid) {
			return p.name, true, nil
		}
	}
	return "", false, nil
}

// slots describes the image slots of a disk; nodes are its partitions' by name.
func (s sysfs) slots(node string, nodes map[string]string) ([]verdict.DiskSlot, error) {
	parts, err := s.table(node)
	if err != nil {
		return nil, err
	}
	var out []verdict.DiskSlot
	for _, p := range parts {
		name, ok := strings.CutPrefix(p.name, partESP)
		if !ok || nodes[p.name] == "" || p.last < p.first {
			continue
		}
		out = append(out, verdict.DiskSlot{
			Name: name, Node: nodes[p.name], GUID: p.guid, Number: p.number, Start: p.first, Sectors: p.last - p.first + 1,
		})
	}
	return out, nil
}

// table reads a disk's partition table.
func (s sysfs) table(node string) ([]partition, error) {
	b, err := os.ReadFile(filepath.Join(s.root, "sys/class/block", filepath.Base(node), "queue/logical_block_size"))
	if err != nil {
		return nil, fmt.Errorf("read sector size of %s: %w", node, err)
	}
	sector, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read sector size of %s: %w", node, err)
	}
	f, err := os.Open(filepath.Join(s.root, node))
	if err != nil {
		return nil, fmt.Errorf("look for the boot partition: %w", err)
	}
	defer f.Close()
	parts, err := readGPT(f, sector)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", node, err)
	}
	return parts, nil
}
