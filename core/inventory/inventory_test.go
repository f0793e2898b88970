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
