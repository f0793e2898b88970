package hw

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/hw/firmware"
	"github.com/ratchetos/ratchet/hw/internal/fakesys"
	"github.com/ratchetos/ratchet/hw/sim"
)

// simulated makes the virtio disk of the box a simulated device and opens a System that believes it.
func simulated(t *testing.T, believe bool) (*System, string) {
	t.Helper()
	root := fakesys.New(t, box)
	if err := os.WriteFile(filepath.Join(root, "sys/devices/pci0000:00/0000:00:03.0/virtio1/block/vda/serial"), []byte("SIM-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(root, "dev/vda")
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(sim.Options{}.Size()), sim.Format(f, sim.Options{})); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Root: root, Simulated: believe})
	if err != nil {
		t.Fatal(err)
	}
	return s, node
}

const simPlace = "pci:0000:00:03.0"

func TestSimulatedDevice(t *testing.T) {
	s, _ := simulated(t, true)
	devices, err := s.Bind(t.Context(), simPlace)
	if err != nil || len(devices) != 1 {
		t.Fatalf("%v, %v", devices, err)
	}
	d := devices[0]
	if d.Kind != Simulated || d.ID != "serial:SIM-1" || d.Firmware != "1.0" || d.FirmwareErr != "" || d.KnownGood {
		t.Errorf("%+v", d)
	}
	f, err := s.Firmware(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := f.ReadBack(t.Context())
	if err != nil || hex.EncodeToString(r.Digest[:]) != d.FirmwareDigest {
		t.Errorf("%v, %v; bound with %s", r, err, d.FirmwareDigest)
	}
	image := sim.Image("sim", "2.0", 9000)
	if err := f.Flash(t.Context(), bytes.NewReader(image), int64(len(image)), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Bind(t.Context(), simPlace); err != nil || again[0].Firmware != "2.0" || again[0].FirmwareDigest == d.FirmwareDigest {
		t.Errorf("after the update: %+v, %v", again, err)
	}
}

// TestReleaseTakesADiskForADisk: only a development image knows simulated devices.
func TestReleaseTakesADiskForADisk(t *testing.T) {
	s, _ := simulated(t, false)
	devices, err := s.Bind(t.Context(), simPlace)
	if err != nil || len(devices) != 1 || devices[0].Kind != Disk || devices[0].FirmwareDigest != "" || !devices[0].KnownGood {
		t.Fatalf("%+v, %v", devices, err)
	}
	if _, err := s.Firmware(devices[0]); !errors.Is(err, firmware.ErrUnsupported) {
		t.Errorf("firmware of a disk: %v, want ErrUnsupported", err)
	}
}

func TestUnreadableFirmware(t *testing.T) {
	s, node := simulated(t, true)
	if err := os.WriteFile(node, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	devices, err := s.Bind(t.Context(), simPlace)
	if err != nil || len(devices) != 1 || devices[0].FirmwareErr == "" {
		t.Errorf("%+v, %v, want an error of the firmware", devices, err)
	}
}

func TestSharesFirmware(t *testing.T) {
	nic := func(place string) Device { return Device{ID: place, Place: place, Kind: NIC, Bus: "pci"} }
	nvme := func(place string) Device { return Device{ID: "nvme " + place, Place: place, Kind: Disk, Bus: "nvme"} }
	scsi := Device{ID: "a", Place: "pci:0000:00:05.0/0:0:0", Kind: Disk, Bus: "scsi"}
	for _, tt := range []struct {
		a, b Device
		want bool
	}{
		{nic("pci:0000:03:00.0"), nic("pci:0000:03:00.1"), true},
		{nic("pci:0000:03:00.0/0"), nic("pci:0000:03:00.0/1"), true},
		{nic("pci:0000:03:00.0"), nic("pci:0000:04:00.0"), false},
		{nvme("pci:0000:03:00.0/1"), nvme("pci:0000:03:00.0/2"), true},
		{nvme("pci:0000:03:00.0/1"), nvme("pci:0000:04:00.0/1"), false},
		{nvme("pci:0000:03:00.0/1"), nic("pci:0000:03:00.0/2"), false},
		{scsi, Device{ID: "b", Place: "pci:0000:00:05.0/0:1:0", Kind: Disk, Bus: "scsi"}, false},
		{scsi, scsi, true},
	} {
		if got := SharesFirmware(tt.a, tt.b); got != tt.want {
			t.Errorf("%s and %s: %t, want %t", tt.a.Place, tt.b.Place, got, tt.want)
		}
	}
}
