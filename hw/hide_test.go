package hw

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/hw/internal/fakesys"
)

// TestHideOthers takes two of three disks behind one controller away and brings them back once.
func TestHideOthers(t *testing.T) {
	const place = "pci:0000:00:05.0"
	s, root := open(t, box)
	deleted := func() (names []string) {
		for _, name := range []string{"sda", "sdb", "sdc"} {
			if fakesys.Get(root, "sys/block", name, "device/delete") == "1" {
				names = append(names, name)
			}
		}
		return names
	}
	scanned := func() string { return fakesys.Get(root, "sys/class/scsi_host/host0/scan") }
	if _, err := s.BindStorage(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	if err := s.HideOthers(place, "/dev/sdb"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"sda", "sdc"}, deleted()); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
	if _, err := s.BindStorage(t.Context(), place); err != nil || scanned() != "" {
		t.Errorf("scanned %q before the release, %v", scanned(), err)
	}
	if _, err := s.Bind(t.Context(), place); err != nil || scanned() != "2 2 0" {
		t.Errorf("scanned %q last, %v", scanned(), err)
	}
	if err := os.WriteFile(filepath.Join(root, "sys/class/scsi_host/host0/scan"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bind(t.Context(), place); err != nil || scanned() != "" {
		t.Errorf("scanned %q a second time, %v", scanned(), err)
	}
}

// Where one function is one disk there is nothing to take away; the attributes do not exist.
func TestHideOthersLeavesWholeFunctions(t *testing.T) {
	s, root := open(t, box)
	for _, place := range []string{"pci:0000:00:03.0", "pci:0000:00:04.0"} {
		if err := s.HideOthers(place, "/dev/sda"); err != nil {
			t.Errorf("%s: %v", place, err)
		}
	}
	if err := s.HideOthers("nonsense", "/dev/sda"); err == nil {
		t.Error("nonsense is a place")
	}
	// A disk that cannot be taken away is an error: it would be there before the verdict.
	attribute := filepath.Join(root, "sys/devices/pci0000:00/0000:00:05.0/host0/target0:2:0/0:2:0:0/delete")
	if err := os.Remove(attribute); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(attribute, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.HideOthers("pci:0000:00:05.0", "/dev/sdb"); err == nil {
		t.Error("a disk that stays is no error")
	}
}

func TestLunOf(t *testing.T) {
	for path, want := range map[string]lun{
		"/sys/devices/pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sdb":             {"host1", "0 0 0"},
		"/sys/devices/pci0000:00/0000:00:05.0/host0/target0:2:1/0:2:1:0/block/sdb":                  {"host0", "2 1 0"},
		"/sys/devices/pci0000:00/0000:00:06.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:3/block/sdd": {"host6", "0 0 3"},
		"/sys/devices/pci0000:00/0000:00:03.0/virtio1/block/vda":                                    {},
		"/sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1":                                   {},
		"/sys/devices/hostile/host/1:2:3:4/block/sda":                                               {},
	} {
		got, ok := lunOf(path)
		if ok != (want.position != "") || ok && got != want {
			t.Errorf("%s: %+v, %v", path, got, ok)
		}
	}
}
