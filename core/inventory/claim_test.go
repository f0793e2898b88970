package inventory

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/disk"
)

// rack is hardware whose disks are loop devices, so that O_EXCL and signatures are the kernel's.
type rack struct {
	devices  []hw.Device
	isolated []string
}

func (r *rack) Inventory() ([]hw.Device, error) { return append([]hw.Device(nil), r.devices...), nil }

func (r *rack) Bind(_ context.Context, place string) ([]hw.Device, error) {
	for i, d := range r.devices {
		if d.Place == place {
			r.devices[i].Driver = "loop"
			return []hw.Device{r.devices[i]}, nil
		}
	}
	return nil, errors.New("no such place")
}

func (r *rack) Isolate(place string) error {
	r.isolated = append(r.isolated, place)
	for i := range r.devices {
		if r.devices[i].Place == place {
			r.devices[i].Driver = ""
		}
	}
	return nil
}

// loop makes a disk of 8 MiB, with an ext4 on it if asked, and returns its device.
func loop(t *testing.T, place string, ext4 bool) hw.Device {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if ext4 {
		run(t, "mkfs.ext4", "-q", "-F", image)
	}
	node := strings.TrimSpace(run(t, "losetup", "--find", "--show", image))
	t.Cleanup(func() { run(t, "losetup", "--detach", node) })
	return hw.Device{ID: "serial:" + place, Place: "pci:0000:00:" + place, Kind: hw.Disk, Node: node, Driver: "loop", Size: 8 << 20, Supported: true}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func released(ids ...string) *verdict.Report {
	r := &verdict.Report{Box: verdict.Verdict{Decision: verdict.Released}}
	for _, id := range ids {
		r.Devices = append(r.Devices, verdict.Device{ID: id, Verdict: verdict.Verdict{Decision: verdict.Released}})
	}
	return r
}

func want(selector string) host.Request {
	return host.Request{Plugin: "gateway", Want: &pluginpb.Want{Name: "d", Kind: pluginpb.Kind_DISK, Selector: selector}}
}

func TestOneOwner(t *testing.T) {
	d := loop(t, "04.0", false)
	inv := New(&rack{devices: []hw.Device{d}}, released(d.ID))
	o, err := inv.Open(t.Context(), want(d.ID))
	if err != nil {
		t.Fatal(err)
	}
	if o.Handle.GetId() != d.ID || o.Handle.GetSize() != d.Size {
		t.Errorf("handle %v, want id and size of %s", o.Handle, d.ID)
	}
	other := want("pci:0000:00:04.0")
	other.Plugin = "provider"
	if _, err := inv.Open(t.Context(), other); err == nil || !strings.Contains(err.Error(), "belongs to gateway") {
		t.Errorf("a second owner, by another name of the disk: %v", err)
	}
	if err := errors.Join(o.File.Close(), o.Release()); err != nil {
		t.Fatal(err)
	}
	o, err = inv.Open(t.Context(), other)
	if err != nil {
		t.Fatalf("after the first owner let go: %v", err)
	}
	if err := errors.Join(o.File.Close(), o.Release()); err != nil {
		t.Fatal(err)
	}
}

// TestVerdictHoldsDevicesBack: nothing is handed out, bound, unbound or erased without a released verdict.
func TestVerdictHoldsDevicesBack(t *testing.T) {
	d := loop(t, "04.0", false)
	isolated := released()
	isolated.Box = verdict.Verdict{Decision: verdict.Isolated, Reason: "the counter moved", Next: "ratchetctl counter show"}
	quarantined := released(d.ID)
	quarantined.Devices[0].Verdict = verdict.Verdict{Decision: verdict.Quarantined, Reason: "swapped"}
	for name, report := range map[string]*verdict.Report{"box isolated": isolated, "device quarantined": quarantined, "not there at boot": released(), "workstation": nil} {
		r := &rack{devices: []hw.Device{d}}
		inv := New(r, report)
		_, openErr := inv.Open(t.Context(), want(d.ID))
		_, _, claimErr := inv.Claim(t.Context(), d.ID, true, inTheWay)
		_, freeErr := inv.Free(d.ID)
		for what, err := range map[string]error{"open": openErr, "claim": claimErr, "free": freeErr} {
			if !errors.Is(err, ErrNotReleased) {
				t.Errorf("%s: %s: %v, want ErrNotReleased", name, what, err)
			}
		}
		if len(r.isolated) > 0 {
			t.Errorf("%s: a driver was unbound", name)
		}
	}
}

// inTheWay is content that no plugin needs.
func inTheWay(string) error { return nil }

func TestClaimOfForeignDisk(t *testing.T) {
	d := loop(t, "04.0", true)
	inv := New(&rack{devices: []hw.Device{d}}, released(d.ID))
	shown, err := inv.Resolve(d.ID)
	if content := inv.Content(shown); err != nil || !strings.Contains(content, "ext") {
		t.Errorf("content %q, %v, want ext4", content, err)
	}
	// The plugin has it, waits, and was the one that asked for the claim.
	o, err := inv.Open(t.Context(), want(d.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(o.File.Close(), o.Release()); err != nil {
			t.Error(err)
		}
	}()
	var foreign *disk.ForeignError
	if _, _, err := inv.Claim(t.Context(), d.ID, false, inTheWay); !errors.As(err, &foreign) {
		t.Errorf("claim without erase: %v, want a ForeignError", err)
	}
	run(t, "e2fsck", "-fn", d.Node) // nothing was written
	needed := errors.New("it is needed")
	if _, _, err := inv.Claim(t.Context(), d.ID, true, func(string) error { return needed }); !errors.Is(err, needed) || !errors.Is(err, ErrInUse) {
		t.Errorf("erase of what its plugin needs: %v", err)
	}
	run(t, "e2fsck", "-fn", d.Node)
	_, owner, err := inv.Claim(t.Context(), d.ID, true, inTheWay)
	if err != nil || owner != "gateway" {
		t.Errorf("claim with erase: owner %q, %v", owner, err)
	}
	if kind, err := disk.Signature(o.File, int64(d.Size)); kind != "" || err != nil {
		t.Errorf("after the claim the disk holds %q, %v", kind, err)
	}
}

func TestFreeAndClaimAgain(t *testing.T) {
	d := loop(t, "04.0", false)
	r := &rack{devices: []hw.Device{d}}
	inv := New(r, released(d.ID))
	o, err := inv.Open(t.Context(), want(d.ID))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := inv.Free(d.ID); !errors.Is(err, ErrInUse) {
		t.Errorf("free a disk in use: %v, want ErrInUse", err)
	}
	if err := errors.Join(o.File.Close(), o.Release()); err != nil {
		t.Fatal(err)
	}
	if _, err := inv.Free(d.ID); err != nil || len(r.isolated) != 1 || r.isolated[0] != d.Place {
		t.Errorf("free: %v, unbound %v", err, r.isolated)
	}
	if got, _, err := inv.Claim(t.Context(), d.ID, false, inTheWay); err != nil || got.Driver == "" {
		t.Errorf("claim after free: driver %q, %v", got.Driver, err)
	}
}

func TestBootDiskIsNobodys(t *testing.T) {
	d := loop(t, "04.0", false)
	report := released(d.ID)
	report.BootDisk = verdict.Disk{ID: d.ID, Node: d.Node}
	inv := New(&rack{devices: []hw.Device{d}}, report)
	if _, err := inv.Open(t.Context(), want(d.ID)); err == nil || !strings.Contains(err.Error(), "belongs to boot") {
		t.Errorf("open: %v", err)
	}
	if _, _, err := inv.Claim(t.Context(), d.ID, true, inTheWay); !errors.Is(err, ErrInUse) {
		t.Errorf("claim: %v, want ErrInUse", err)
	}
}
