package boot

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// TestReadGPT reads what sgdisk wrote.
func TestReadGPT(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 16<<20); err != nil {
		t.Fatal(err)
	}
	const guid = "11111111-2222-3333-8444-000000000001"
	out, err := exec.Command("sgdisk", "-n", "1:2048:+1M", "-c", "1:ESP-A", "-u", "1:"+guid, "-n", "2:0:+4M", "-c", "2:LEDGER", path).CombinedOutput()
	if err != nil {
		t.Fatalf("sgdisk (apt install gdisk): %v %s", err, out)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parts, err := readGPT(f, 512)
	if err != nil || len(parts) != 2 {
		t.Fatalf("%+v %v", parts, err)
	}
	if parts[0].name != "ESP-A" || !sameGUID(parts[0].guid, guid) || parts[1].name != "LEDGER" {
		t.Errorf("%+v", parts)
	}
	root := t.TempDir()
	tree(t, root, map[string]string{
		"sys/class/block/vda/queue/logical_block_size": "512\n",
		"sys/class/block/vda/vda1/uevent":              "MAJOR=254\nDEVNAME=vda1\nDEVTYPE=partition\nPARTN=1\nPARTNAME=ESP-A\n",
		"sys/class/block/vda/vda2/uevent":              "DEVNAME=vda2\nPARTNAME=LEDGER\n",
	})
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(root, "dev/vda")); err != nil {
		t.Fatal(err)
	}
	s := sysfs{root}
	name, ok, err := s.Holds("/dev/vda", "11111111-2222-3333-8444-000000000001")
	if err != nil || !ok || name != "ESP-A" {
		t.Errorf("holds: %q %v %v", name, ok, err)
	}
	if _, ok, err := s.Holds("/dev/vda", "00000000-0000-0000-0000-000000000000"); ok || err != nil {
		t.Errorf("holds a GUID that is not there: %v %v", ok, err)
	}
	slots, err := s.slots("/dev/vda", map[string]string{"ESP-A": "/dev/vda1", "LEDGER": "/dev/vda2"})
	if want := (verdict.DiskSlot{Name: "A", Node: "/dev/vda1", GUID: guid, Number: 1, Start: 2048, Sectors: 2048}); err != nil || len(slots) != 1 || slots[0] != want {
		t.Errorf("slots: %+v %v", slots, err)
	}
	if got, err := s.Partitions("/dev/vda"); err != nil || got["LEDGER"] != "/dev/vda2" || len(got) != 2 {
		t.Errorf("partitions: %v %v", got, err)
	}
}

func tree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFirmware(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{
		"LoaderDevicePartUUID-" + vendorLoader: "\x06\x00\x00\x00" + "A\x00b\x00-\x001\x00\x00\x00",
		"SecureBoot-" + slot.VendorGlobal:      "\x06\x00\x00\x00\x01",
	})
	if f := readFirmware(dir); f.bootPart != "Ab-1" || !f.secureBoot {
		t.Errorf("%+v", f)
	}
	if f := readFirmware(t.TempDir()); f.bootPart != "" || f.secureBoot {
		t.Errorf("no variables: %+v", f)
	}
}

// FuzzReadGPT: the table comes from a disk that anybody may have written.
func FuzzReadGPT(f *testing.F) {
	entry := make([]byte, 128)
	entry[0], entry[16] = 1, 2
	copy(entry[56:], "E\x00S\x00P\x00")
	f.Add(entry, uint32(1), uint32(128), uint64(2))
	f.Fuzz(func(t *testing.T, entries []byte, n, size uint32, at uint64) {
		disk := make([]byte, 2048+len(entries))
		copy(disk[1024:], entries)
		le := binary.LittleEndian
		h := disk[512:604]
		copy(h, "EFI PART")
		le.PutUint32(h[12:], 92)
		le.PutUint64(h[72:], at)
		le.PutUint32(h[80:], n)
		le.PutUint32(h[84:], size)
		if end := uint64(n) * uint64(size); end <= uint64(len(disk)-1024) {
			le.PutUint32(h[88:], crc32.ChecksumIEEE(disk[1024:1024+end]))
		}
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
		parts, err := readGPT(bytes.NewReader(disk), 512)
		if err == nil && uint32(len(parts)) > n {
			t.Fatalf("%d partitions of %d entries", len(parts), n)
		}
	})
}
