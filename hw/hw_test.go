package hw

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/hw/internal/fakesys"
	"github.com/ratchetos/ratchet/hw/kmod"
)

const box = "testdata/box.txtar"

func open(t *testing.T, archive string) (*System, string) {
	t.Helper()
	root := fakesys.New(t, archive)
	s, err := Open(Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	return s, root
}

// summary is what `hw list` shows of an inventory.
func summary(devices []Device) string {
	var b strings.Builder
	for _, d := range devices {
		fmt.Fprintf(&b, "%s | %s | %s %s | %s | driver %s node %s size %d fw %s | %v %s\n",
			d.ID, d.Place, d.Bus, d.Kind, d.Model, d.Driver, d.Node, d.Size, d.Firmware, d.Supported, d.Why)
	}
	return b.String()
}

func TestInventory(t *testing.T) {
	s, _ := open(t, box)
	s.MarkBoot("/dev/vda")
	devices, err := s.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimLeft(`
mac:52:54:00:00:00:01 | pci:0000:00:01.0 | virtio nic | Virtio network device | driver virtio-pci node eth0 size 0 fw  | true 
pci:0000:00:02.0 | pci:0000:00:02.0 | pci nic | 82574L Gigabit Network Connection | driver  node  size 0 fw  | true 
serial:ratchet-data | pci:0000:00:03.0 | virtio disk | Virtio block device | driver virtio-pci node /dev/vda size 1073741824 fw  | true 
serial:NV1 | pci:0000:00:04.0/1 | nvme disk | QEMU NVMe Ctrl | driver nvme node /dev/nvme0n1 size 2147483648 fw 7.2.22 | true 
pci:0000:00:05.0/2:0:0 | pci:0000:00:05.0/2:0:0 | scsi disk | QEMU HARDDISK | driver megaraid_sas node /dev/sda size 1048576 fw 2.5+ | true serial:DUP-1 is claimed by 2 devices; select this one by its place
pci:0000:00:05.0/2:1:0 | pci:0000:00:05.0/2:1:0 | scsi disk | QEMU HARDDISK | driver megaraid_sas node /dev/sdb size 1048576 fw 2.5+ | true serial:DUP-1 is claimed by 2 devices; select this one by its place
serial:SAS-3 | pci:0000:00:05.0/2:2:0 | scsi disk | QEMU HARDDISK | driver megaraid_sas node /dev/sdc size 1048576 fw 2.5+ | true 
pci:0000:00:06.0 | pci:0000:00:06.0 | pci nic | PCI device 10de:1234 | driver  node  size 0 fw  | false not in the hardware catalogue (10de:1234, class 020000)
pci:0000:00:1f.2 | pci:0000:00:1f.2 | ata disk | AHCI SATA controller | driver ahci node  size 0 fw  | false no disk is behind this controller
`, "\n")
	if diff := cmp.Diff(want, summary(devices)); diff != "" {
		t.Error(diff)
	}
	for _, d := range devices {
		if d.Boot != (d.Node == "/dev/vda") {
			t.Errorf("%s: boot %v", d.ID, d.Boot)
		}
	}
}

// A kernel that lacks the driver makes a known device an unsupported one, and says which image has it.
func TestFlavour(t *testing.T) {
	root := fakesys.New(t, box)
	s, err := Open(Options{Root: root, Flavour: "cloud"})
	if err != nil {
		t.Fatal(err)
	}
	devices, err := s.Functions()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Resolve(devices, "pci:0000:00:02.0")
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "cloud kernel has no driver e1000e; use the image with one of: full") {
		t.Errorf("%+v, %v", d, err)
	}
	for release, want := range map[string]string{"6.1.0-56-amd64": "full", "6.1.0-56-cloud-amd64": "cloud", "6.18.44-fc": "", "": ""} {
		if got := flavourOf(release); got != want {
			t.Errorf("flavourOf(%q) = %q", release, got)
		}
	}
}

func TestFreeze(t *testing.T) {
	s, root := open(t, box)
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"sys/bus/pci/drivers_autoprobe":                    "0",
		"sys/module/usbcore/parameters/authorized_default": "0",
		"sys/bus/usb/devices/usb1/authorized_default":      "0",
	} {
		if got := fakesys.Get(root, path); !strings.HasPrefix(got, want) {
			t.Errorf("%s is %q", path, got)
		}
	}
	// Firmware left functions without a driver able to write memory; bound ones need it.
	for function, want := range map[string]byte{"0000:00:02.0": 0, "0000:00:03.0": 4} {
		if config, err := os.ReadFile(filepath.Join(root, "sys/bus/pci/devices", function, "config")); err != nil || config[4]&4 != want {
			t.Errorf("%s: command register %#x (%v), want bus mastering %d", function, config[4], err, want)
		}
	}
	if got := fakesys.Get(root, "proc/sys/kernel/modprobe"); strings.HasPrefix(got, "/sbin") {
		t.Errorf("modprobe is %q", got)
	}
	// A kernel without PCI, USB and modules has nothing to freeze, and that is no error.
	empty, err := Open(Options{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.Freeze(); err != nil {
		t.Error(err)
	}
}

func TestBind(t *testing.T) {
	s, root := open(t, box)
	// What the driver will make of the function, as the tree cannot react to a write.
	link := filepath.Join(root, "sys/devices/pci0000:00/0000:00:02.0/net/eth1")
	if err := os.MkdirAll(link, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"address": "52:54:00:00:00:02", "addr_assign_type": "0"} {
		if err := os.WriteFile(filepath.Join(link, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../devices/pci0000:00/0000:00:02.0/net/eth1", filepath.Join(root, "sys/class/net/eth1")); err != nil {
		t.Fatal(err)
	}
	devices, err := s.Bind(t.Context(), "pci:0000:00:02.0")
	if err != nil || len(devices) != 1 || devices[0].ID != "mac:52:54:00:00:00:02" || devices[0].Node != "eth1" || devices[0].Driver != "e1000e" {
		t.Fatalf("%+v, %v", devices, err)
	}
	if got := fakesys.Get(root, "sys/bus/pci/drivers/e1000e/bind"); got != "0000:00:02.0" {
		t.Errorf("bind got %q", got)
	}
	if got := fakesys.Get(root, "sys/bus/pci/devices/0000:00:02.0/driver_override"); !strings.HasPrefix(got, "e1000e") {
		t.Errorf("override %q", got)
	}
	// The link moves to a plugin's namespace and out of this sysfs: the inventory still knows it.
	if err := os.Remove(filepath.Join(root, "sys/class/net/eth1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../bus/pci/drivers/e1000e", filepath.Join(root, "sys/devices/pci0000:00/0000:00:02.0/driver")); err != nil {
		t.Fatal(err)
	}
	inventory, err := s.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := Resolve(inventory, "mac:52:54:00:00:00:02"); err != nil || d.Node != "eth1" {
		t.Errorf("%+v, %v", d, err)
	}
}

// Core did not bind what init bound, but it must know a NIC that it gave to a plugin.
func TestInventoryRemembers(t *testing.T) {
	s, root := open(t, box)
	if _, err := s.Inventory(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, "sys/class/net/eth0")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		devices, err := s.Inventory()
		if err != nil {
			t.Fatal(err)
		}
		if d, err := Resolve(devices, "mac:52:54:00:00:00:01"); err != nil || d.Node != "eth0" {
			t.Errorf("%+v, %v", d, err)
		}
	}
	// Unplugged is another matter.
	if err := os.Remove(filepath.Join(root, "sys/bus/pci/devices/0000:00:01.0")); err != nil {
		t.Fatal(err)
	}
	devices, err := s.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(devices, "mac:52:54:00:00:00:01"); err == nil {
		t.Error("a NIC that was pulled out is still listed")
	}
}

func TestBindStorage(t *testing.T) {
	s, _ := open(t, box)
	disks, err := s.BindStorage(t.Context(), "pci:0000:00:05.0")
	if err != nil || len(disks) != 3 || disks[2].ID != "serial:SAS-3" {
		t.Errorf("%+v, %v", disks, err)
	}
	if _, err := s.BindStorage(t.Context(), "pci:0000:00:01.0"); err == nil || !strings.Contains(err.Error(), "is a nic") {
		t.Errorf("a NIC as storage: %v", err)
	}
}

func TestBindRefuses(t *testing.T) {
	s, _ := open(t, box)
	var unsupported *UnsupportedError
	for place, want := range map[string]string{
		"pci:0000:00:06.0": "not in the hardware catalogue",
		"pci:0000:00:00.0": "neither a NIC nor a disk controller",
		"pci:0000:00:09.0": "no such file",
		"pci:../../../etc": "not a place",
		"mac:52:54":        "not a place",
	} {
		if _, err := s.Bind(t.Context(), place); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", place, err, want)
		}
		if _, err := s.Bind(t.Context(), place); strings.Contains(want, "catalogue") && !errors.As(err, &unsupported) {
			t.Errorf("%s: %T is no *UnsupportedError", place, err)
		}
	}
	// A driver that binds and makes no link.
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Bind(soon, "pci:0000:00:02.0"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a NIC that never appeared: %v", err)
	}
	if err := s.LoadModule("floppy"); !errors.Is(err, kmod.ErrUnknown) {
		t.Errorf("load: %v", err)
	}
}

// A scan that never ends does not hold a boot longer than it allows.
func TestBindEndsWithItsContext(t *testing.T) {
	s, root := open(t, box)
	if err := os.Remove(filepath.Join(root, "dev/vda")); err != nil { // the node never comes
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Bind(ctx, "pci:0000:00:03.0"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestIsolateAndRemove(t *testing.T) {
	s, root := open(t, box)
	unbind := filepath.Join(root, "sys/bus/pci/drivers/virtio-pci/unbind")
	if err := s.Isolate("pci:0000:00:03.0"); err != nil {
		t.Fatal(err)
	}
	function := "sys/bus/pci/devices/0000:00:03.0"
	if got, _ := os.ReadFile(unbind); string(got[:12]) != "0000:00:03.0" {
		t.Errorf("unbind got %q", got)
	}
	if got := fakesys.Get(root, function, "driver_override"); !strings.HasPrefix(got, "isolated") {
		t.Errorf("override %q", got)
	}
	config, _ := os.ReadFile(filepath.Join(root, function, "config"))
	if config[4]&4 != 0 || config[4] != 0x03 {
		t.Errorf("command register %#x: bus mastering must be off, the rest as it was", config[4])
	}
	if err := s.Remove("pci:0000:00:03.0"); err != nil || fakesys.Get(root, function, "remove") != "1" {
		t.Errorf("remove: %v", err)
	}
	for _, bad := range []string{"pci:0000:00:0f.0", "nonsense"} {
		if s.Isolate(bad) == nil || s.Remove(bad) == nil {
			t.Errorf("%s was isolated or removed", bad)
		}
	}
}

// The machine that runs the test has hardware of its own; looking at it changes nothing.
func TestInventoryOfThisMachine(t *testing.T) {
	s, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	devices, err := s.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", summary(devices))
	for _, d := range devices {
		if d.ID == "" || d.Place == "" || d.Kind == "" || d.Supported == (d.Why != "" && d.ID != d.Place) {
			t.Errorf("incomplete: %+v", d)
		}
	}
}

// TestMultipathNVMe: a namespace of a controller that can have others beside it (dual-port SSDs) has a path for each of them in
// sysfs, hidden and without a node, as seen in Linux 6.1. It is one disk, with its serial number, and no bind waits for another.
func TestMultipathNVMe(t *testing.T) {
	s, root := open(t, box)
	const (
		controller = "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0"
		subsystem  = "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
	)
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	at := func(path ...string) string { return filepath.Join(append([]string{root}, path...)...) }
	must(os.Rename(at(controller, "nvme0n1"), at(controller, "nvme0c0n1")), os.Remove(at("sys/block/nvme0n1")),
		os.WriteFile(at(controller, "nvme0c0n1/hidden"), []byte("1\n"), 0o600),
		os.Symlink("../devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0c0n1", at("sys/block/nvme0c0n1")),
		os.MkdirAll(at(subsystem, "nvme0n1"), 0o755), os.Symlink("../../../pci0000:00/0000:00:04.0/nvme/nvme0", at(subsystem, "nvme0")),
		os.Symlink("../../nvme-subsys0", at(subsystem, "nvme0n1/device")), os.Symlink("../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", at("sys/block/nvme0n1")))
	for name, text := range map[string]string{"serial": "NV1", "nvme0n1/nsid": "1", "nvme0n1/hidden": "0", "nvme0n1/size": "2048"} {
		must(os.WriteFile(at(subsystem, name), []byte(text+"\n"), 0o600))
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	bound, err := s.Bind(soon, "pci:0000:00:04.0")
	if err != nil || len(bound) != 1 || bound[0].Node != "/dev/nvme0n1" || bound[0].Place != "pci:0000:00:04.0/1" {
		t.Errorf("bind: %+v, %v", bound, err)
	}
	devices, err := s.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if d, err := Resolve(devices, "serial:NV1"); err != nil || d.Node != "/dev/nvme0n1" || d.Size != 2048*512 {
		t.Errorf("%+v, %v", d, err)
	}
}
