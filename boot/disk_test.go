package boot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// TestControllerHint: the hint decides who is asked first, and nothing else.
func TestControllerHint(t *testing.T) {
	for _, c := range []struct {
		name, hint string
		want       []string
	}{
		{"none", "", []string{diskPlace, bootPlace}},
		{"right", bootPlace, []string{bootPlace}},
		{"another controller", diskPlace, []string{diskPlace, bootPlace}},
		{"a NIC", nicPlace, []string{diskPlace, bootPlace}},
		{"nothing at all", "pci:../../../etc\x00", []string{diskPlace, bootPlace}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, tpmtest.Kinds[0])
			w.iron.order = []string{nicPlace, diskPlace, bootPlace, "pci:0000:00:09.0"}
			w.hint = c.hint
			r := w.boot()
			w.want(r, verdict.Released, "provisioned")
			if diff := cmp.Diff(c.want, w.iron.tried); diff != "" {
				t.Errorf("controllers (-want +got):\n%s", diff)
			}
			if r.Controller != bootPlace {
				t.Errorf("the next hint is %q", r.Controller)
			}
		})
	}
}

// TestOthersBehindTheBootController: they are gone at the box's verdict and back with their own after it.
func TestOthersBehindTheBootController(t *testing.T) {
	w := newWorld(t, tpmtest.Kinds[0])
	other := hw.Device{ID: "serial:other", Place: bootPlace + "/1", Kind: hw.Disk, Serial: "other", Node: "/dev/vdc"}
	w.iron.behind[bootPlace] = append([]hw.Device{other}, w.iron.behind[bootPlace]...)
	gone := false
	w.medium = func(m Medium) Medium { // LEDGER is opened for reading before the verdict
		gone = gone || w.iron.hidden[other.Node]
		return m
	}
	r := w.boot()
	w.want(r, verdict.Released, "provisioned")
	if !gone {
		t.Error("the other disk was there before the verdict")
	}
	if w.iron.hidden[other.Node] || devices(r)[other.ID] != "released admitted" {
		t.Errorf("after the release: %v", devices(r))
	}
	w.increment()
	r = w.boot()
	w.want(r, verdict.Isolated, "counter-moved")
	if !w.iron.hidden[other.Node] || r.Controller != "" {
		t.Errorf("isolated: the other disk came back, next hint %q", r.Controller)
	}
}

// TestWriteController goes over what is there, as efivarfs does; its flags need the real one.
func TestWriteController(t *testing.T) {
	dir := t.TempDir()
	for _, place := range []string{bootPlace, diskPlace} {
		if err := writeController(dir, place); err != nil {
			t.Fatal(err)
		}
		if got := readFirmware(dir).controller; got != place {
			t.Errorf("read back %q", got)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, variableController+"-"+slot.VendorRatchet))
	if err != nil || string(b[:4]) != "\x07\x00\x00\x00" {
		t.Errorf("attributes %x, %v", b, err)
	}
	if err := writeController(filepath.Join(dir, "absent"), bootPlace); err == nil {
		t.Error("written into a directory that is not there")
	}
}
