package balancer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
)

// Stop leaves everything pinned, Remove nothing.
func TestStopLeavesRemoveTakes(t *testing.T) {
	o := Options{Pins: filepath.Join(bpffs(t), "balancer"), State: controltest.NewMemoryState()}
	if err := os.Mkdir(o.Pins, 0o700); err != nil {
		t.Fatal(err)
	}
	pinned := func() (n int) {
		filepath.Walk(o.Pins, func(_ string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() {
				n++
			}
			return nil
		})
		return n
	}
	p := newPart(t, o, many(1, 2))
	life := p.running().life
	if err := p.Stop(t.Context()); err != nil || pinned() == 0 {
		t.Fatalf("%d things are pinned after Stop, %v", pinned(), err)
	}
	p = newPart(t, o, many(1, 2))
	if r := p.running(); !r.table.TookOver() || r.life != life {
		t.Errorf("took over %v, life %x after %x", r.table.TookOver(), r.life, life)
	}
	if err := p.Remove(t.Context()); err != nil || pinned() != 0 {
		t.Errorf("%d things are pinned after Remove, %v", pinned(), err)
	}
	if p = newPart(t, o, many(1, 2)); p.running().life == life {
		t.Error("counts that began anew have the life of the old ones")
	}
}
