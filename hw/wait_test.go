package hw

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/hw/catalogue"
)

// bringer is a kernel log that says a link is down, while a disk shows up behind another port.
type bringer struct{ bring func() }

func (b *bringer) Read(p []byte) (int, error) {
	if b.bring == nil {
		return 0, io.EOF
	}
	b.bring()
	b.bring = nil
	return copy(p, "6,1,1,-;ata1: SATA link down (SStatus 0 SControl 300)"), nil
}

// TestDiskThatAppearsWhileTheScanIsAsked must be waited for: its node cannot be opened before its
// partitions have been read. Seen in QEMU under load, as a boot disk that was not there.
func TestDiskThatAppearsWhileTheScanIsAsked(t *testing.T) {
	s, root := open(t, box)
	f, err := s.bus.Get("0000:00:1f.2")
	if err != nil {
		t.Fatal(err)
	}
	function := filepath.Join(root, "sys/devices/pci0000:00/0000:00:1f.2")
	device := filepath.Join(function, "ata2/host1/target1:0:0/1:0:0:0")
	must := func(err ...error) {
		t.Helper()
		if err := errors.Join(err...); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, path string) error {
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path))
	}
	for _, port := range []string{"ata1", "ata2"} {
		dir := filepath.Join(function, port, "ata_port", port)
		must(os.MkdirAll(dir, 0o755), link(dir, filepath.Join(root, "sys/class/ata_port", port)))
	}
	must(os.MkdirAll(device, 0o755), os.WriteFile(filepath.Join(device, "type"), []byte("0\n"), 0o600),
		link(device, filepath.Join(root, "sys/bus/scsi/devices/1:0:0:0")))

	w := s.waiter(f, catalogue.Entry{Kind: catalogue.DiskController, Driver: "ahci", Bus: "ata"})
	w.log = &bringer{func() {
		must(os.MkdirAll(filepath.Join(device, "block/sdz"), 0o755),
			link("../devices/pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sdz", filepath.Join(root, "sys/block/sdz")))
	}}
	if w.settled() {
		t.Fatal("settled with a disk that has no node")
	}
	must(os.WriteFile(filepath.Join(root, "dev/sdz"), nil, 0o600))
	if !w.settled() {
		t.Error("not settled with everything there")
	}
}

// TestStickThatIsLookedAtLater: usb-storage looks behind an interface only after a while; until then nothing else says
// that a disk is coming. Seen in QEMU, as an admitted stick that was missing.
func TestStickThatIsLookedAtLater(t *testing.T) {
	s, root := open(t, box)
	f, err := s.bus.Get("0000:00:1f.2")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err ...error) {
		t.Helper()
		if err := errors.Join(err...); err != nil {
			t.Fatal(err)
		}
	}
	devices := filepath.Join(root, "sys/bus/usb/devices")
	w := s.waiter(f, catalogue.Entry{Kind: catalogue.DiskController, Driver: "xhci_hcd", Bus: "usb"})
	if !w.sticksComplete() {
		t.Error("waits for sticks of a controller without any")
	}
	for name, class := range map[string]string{"2-1:1.0": "08", "2-2:1.0": "03"} {
		dir := filepath.Join(root, "sys/devices/pci0000:00/0000:00:1f.2/usb2", name)
		must(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "bInterfaceClass"), []byte(class+"\n"), 0o600),
			os.MkdirAll(devices, 0o755), os.Symlink(dir, filepath.Join(devices, name)))
	}
	if w.sticksComplete() {
		t.Error("does not wait for the stick")
	}
	must(os.MkdirAll(filepath.Join(root, "sys/devices/pci0000:00/0000:00:1f.2/usb2/2-1:1.0/host6/target6:0:0/6:0:0:0"), 0o755))
	if !w.sticksComplete() {
		t.Error("waits for a stick that is there, or for a keyboard")
	}
}
