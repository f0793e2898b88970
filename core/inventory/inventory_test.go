package inventory

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// bare is hardware without any device; what else it could do is not called.
type bare struct{ Hardware }

func (bare) Inventory() ([]hw.Device, error) { return nil, nil }

// A DATA partition that somebody has is still one device: it once was listed twice, and the configuration
// that used it could not be applied again.
func TestDataPartitionInUseIsOneDevice(t *testing.T) {
	node := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(node, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	inv := New(bare{}, &verdict.Report{
		Box:      verdict.Verdict{Decision: verdict.Released},
		BootDisk: verdict.Disk{ID: "serial:boot", Data: node},
	})
	data, err := inv.Resolve(DataSelector)
	if err != nil {
		t.Fatal(err)
	}
	if err := inv.Reserve(data.Device, "gateway"); err != nil {
		t.Fatal(err)
	}
	all, err := inv.Devices()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].ID != DataSelector || all[0].Owner != "gateway" {
		t.Errorf("devices are %+v, want the DATA partition once, owned by gateway", all)
	}
	if _, err := hw.Resolve([]hw.Device{all[0].Device}, DataSelector); err != nil {
		t.Errorf("resolve: %v", err)
	}
}

// TestUnreserve: a device that core had for itself can be a plugin's afterwards; nobody gives back what is somebody else's.
func TestUnreserve(t *testing.T) {
	nic := hw.Device{ID: "mac:1", Kind: hw.NIC}
	inv := New(bare{}, nil)
	if err := inv.Reserve(nic, Management); err != nil {
		t.Fatal(err)
	}
	inv.Unreserve(nic.ID, "dataplane")
	if err := inv.Reserve(nic, "dataplane"); err == nil {
		t.Error("the management network's NIC is given to a plugin")
	}
	inv.Unreserve(nic.ID, Management)
	if err := inv.Reserve(nic, "dataplane"); err != nil {
		t.Errorf("a NIC that was left: %v", err)
	}
}
