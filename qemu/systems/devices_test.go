package systems

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/hw/sim"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// The simulated devices of the machine: one with a spare slot that takes a reset, one that is written
// over what it runs, and one that is added later.
const (
	twoSlots, oneSlot, added = "SIM-two", "SIM-one", "SIM-new"
	twoID, oneID, addedID    = "serial:" + twoSlots, "serial:" + oneSlot, "serial:" + added
)

// devices: the firmware of devices is flashed, cut off, tampered with and recovered; a device that is
// new is admitted; all of it is closed by the boot after.
func (s *counterSuite) devices(t *testing.T) {
	t.Parallel()
	dir := s.machine("devices")
	simulate(t, dir, twoSlots, sim.Options{AtReset: true})
	simulate(t, dir, oneSlot, sim.Options{Slots: 1, Fault: sim.Fault{Point: sim.Write, Stall: true}})
	simulate(t, dir, added, sim.Options{})
	update := firmwarePackage(t, dir, "1.1", "simulated device", "sim")

	m := boot(t, s.withDevices(t, dir, twoSlots, oneSlot))
	m.released("provisioned")
	m.login()
	n := number(t, m.counter().Counter)
	s.firmwareOf(t, m, twoID, "1.0", "digest")
	s.firmwareOf(t, m, "serial:ratchet-data", "", "version") // QEMU's NVMe, by its slot log
	s.refusals(t, m, dir, update)
	m.counts(text(n), text(n), "0")

	if out := m.ctl("firmware", "flash", twoID, update); !strings.Contains(out, "at the next boot") {
		t.Errorf("flash of a device that takes a reset: %s", out)
	}
	m.refused(1, []string{"waits for the next boot"}, "firmware", "flash", twoID, update)
	m.counts(text(n+1), text(n), "1")
	seen(t, "firmware flash: counter %d, the device takes it at the next boot", n+1)
	m.cutFlash(oneID, update)
	tamper(t, dir, oneSlot, func(d *sim.Device) error { return d.SetFault(sim.Fault{}) })
	seen(t, "power cut in the middle of a flash of a device with one slot")

	m = boot(t, s.withDevices(t, dir, twoSlots, oneSlot, added))
	m.released("closing")
	m.counts(text(n+2), text(n+2), "0")
	s.firmwareOf(t, m, twoID, "1.1", "digest")
	m.device(oneID, "isolated", "unreadable")
	m.device(addedID, "quarantined", "unknown")
	s.attack(t, rowPower, "in the middle of a firmware flash", "released, closing; that device isolated, recovered later")
	s.attack(t, rowDevices, "device added while off", "quarantined, unknown; the box serves")
	seen(t, "next boot: %s runs 1.1 and is closed, %s is half written and isolated, the box serves", twoID, oneID)

	m.ctl("firmware", "recover", oneID, update)
	m.ctl("hw", "admit", addedID)
	m.device(addedID, "quarantined", "admitted-at-boot")
	m.counts(text(n+4), text(n+2), "2")
	m.ctl("power", "reboot")
	m.released("closing")
	s.firmwareOf(t, m, oneID, "1.1", "digest")
	m.device(addedID, "released", "admitted")
	seen(t, "firmware recover and hw admit: counter %d, released by the boot after", n+4)
	m.off()

	// Behind our back, with the same version: only the digest tells.
	tamper(t, dir, twoSlots, func(d *sim.Device) error { return d.Tamper(1, append(sim.Image("sim", "1.1", 200_000), 0)) })
	o := s.withDevices(t, dir, twoSlots, oneSlot, added)
	o.Disks[0].Serial = "ratchet-other" // another disk where the data disk was
	m = boot(t, o)
	m.released("clean")
	m.device("serial:ratchet-data", "isolated", "missing")
	m.device("serial:ratchet-other", "quarantined", "swapped")
	m.device(twoID, "isolated", "firmware-changed")
	m.refused(4, nil, "firmware", "verify", twoID)
	m.ctl("firmware", "recover", twoID, update)
	m.ctl("power", "reboot")
	m.released("closing")
	m.device(twoID, "released", "closed")
	s.attack(t, rowFirmware, "other firmware with the same version", "isolated by its digest, recovered from the package")
	s.attack(t, rowDevices, "disk swapped while off", "one missing, one quarantined (swapped); the box serves")
	seen(t, "firmware changed behind our back: isolated by its digest, recovered from the package; a disk swapped: one missing, one quarantined")
	m.off()
}

// hotplug: NICs and disks are pulled and plugged while the box runs. Only what was admitted and reads
// back as expected is used again; the rest of the box serves all the while.
func (s *counterSuite) hotplug(t *testing.T) {
	t.Parallel()
	dir := s.machine("hotplug")
	o := s.options(t, dir)
	stick := filepath.Join(dir, "stick.img")
	must(t, box.Sparse(stick, 16<<20))
	// On q35 only what is behind a root port can be plugged; the NIC that the dataplane has is.
	const nic = "e1000e,id=plug0,mac=52:54:00:72:61:02,netdev=plugnet,romfile=,bus=port0"
	o.NICs = nil
	o.ExtraArgs = []string{
		"-device", "pcie-root-port,id=port0,chassis=1,slot=1", "-device", "pcie-root-port,id=port1,chassis=2,slot=2",
		"-netdev", "hubport,id=plugnet,hubid=1", "-device", nic,
		"-drive", "if=none,id=stick,format=raw,file=" + stick,
	}
	m := boot(t, o)
	m.released("provisioned")
	m.login()
	m.device("mac:52:54:00:72:61:02", "released", "admitted")

	m.unplug("plug0")
	m.says(`device mac:52:54:00:72:61:02 was pulled from \S+; dataplane had it`)
	m.device("mac:52:54:00:72:61:02", "isolated", "missing")
	s.attack(t, rowDevices, "NIC pulled while running", "reported, missing; the box serves")
	seen(t, "NIC pulled while running: reported, the box serves")

	m.plug(map[string]any{"driver": "virtio-blk-pci", "id": "plug1", "drive": "stick", "serial": "stranger", "bus": "port1"})
	m.device(m.says(`device (pci:\S+) was plugged at \S+: QUARANTINED: it was never admitted`).Groups[1], "quarantined", "unknown")
	s.attack(t, rowDevices, "disk plugged while running", "quarantined, unknown, not bound")
	seen(t, "disk plugged that was never admitted: quarantined, not bound")

	m.plug(map[string]any{"driver": "e1000e", "id": "plug2", "mac": "52:54:00:72:61:02", "netdev": "plugnet", "romfile": "", "bus": "port0"})
	m.says(`device mac:52:54:00:72:61:02 was plugged at \S+: RELEASED: it came back`)
	m.device("mac:52:54:00:72:61:02", "released", "returned")
	m.until("the dataplane has its NIC again", func() bool { return strings.Contains(m.ctl("hw", "list"), "dataplane") })
	seen(t, "NIC plugged again: read back as expected, given back to the dataplane")
	m.off()
}

func (m *machine) unplug(id string) {
	m.t.Helper()
	must(m.t, m.QMP().Do(within(m.t, stepLimit), "device_del", map[string]any{"id": id}, nil))
}

func (m *machine) plug(device map[string]any) {
	m.t.Helper()
	must(m.t, m.QMP().Do(within(m.t, stepLimit), "device_add", device, nil))
}

// says waits for a line of core on the console.
func (m *machine) says(pattern string) vm.Match {
	m.t.Helper()
	match, err := m.ExpectLine(within(m.t, stepLimit), pattern)
	must(m.t, err)
	return match
}

// until asks until it is so.
func (m *machine) until(what string, is func() bool) {
	m.t.Helper()
	for ctx := within(m.t, stepLimit); !is(); {
		if ctx.Err() != nil {
			m.t.Fatalf("%s: not within %s", what, stepLimit)
		}
	}
}

// withDevices is the machine with these simulated devices.
func (s *counterSuite) withDevices(t *testing.T, dir string, serials ...string) box.Options {
	t.Helper()
	o := s.options(t, dir)
	for _, serial := range serials {
		o.Disks = append(o.Disks, vm.Disk{Path: filepath.Join(dir, serial+".img"), Serial: serial})
	}
	return o
}

// simulate makes a simulated device in a disk image.
func simulate(t *testing.T, dir, serial string, o sim.Options) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	f, err := os.Create(filepath.Join(dir, serial+".img"))
	must(t, err)
	must(t, errors.Join(f.Truncate(o.Size()), sim.Format(f, o), f.Close()))
}

// tamper works on a device of a machine that is switched off.
func tamper(t *testing.T, dir, serial string, do func(*sim.Device) error) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, serial+".img"), os.O_RDWR, 0)
	must(t, err)
	d, err := sim.On(f, "")
	must(t, err)
	must(t, errors.Join(do(d), f.Close()))
}

// firmwarePackage packs an image for a model of package sim, signed with the development bundle key.
func firmwarePackage(t *testing.T, dir, version, model, simModel string) string {
	t.Helper()
	ring, _, err := keys.Development("")
	must(t, err)
	path := filepath.Join(dir, fmt.Sprintf("%s-%s.fw", simModel, version))
	f, err := os.Create(path)
	must(t, err)
	m := bundle.DeviceManifest{Models: []string{model}, Versions: map[string]string{"": version}}
	must(t, errors.Join(builder.DeviceFirmware(f, ring, m, sim.Image(simModel, version, 200_000)), f.Close()))
	return path
}

// refusals: bad packages and devices change nothing and count nothing.
func (s *counterSuite) refusals(t *testing.T, m *machine, dir, good string) {
	t.Helper()
	m.refused(1, []string{"not for this device", "simulated device"}, "firmware", "flash", twoID, firmwarePackage(t, dir, "1.1", "X710", "other"))
	m.refused(1, []string{"not for this device"}, "firmware", "flash", "serial:ratchet-data", good)
	m.refused(1, []string{"no way to its firmware"}, "firmware", "verify", "mac:52:54:00:72:61:01")
	b, err := os.ReadFile(good)
	must(t, err)
	for name, bad := range map[string][]byte{"cut": b[:len(b)/2], "altered": append(b[:len(b)-5000:len(b)-5000], make([]byte, 5000)...), "empty": nil} {
		path := filepath.Join(dir, name+".fw")
		must(t, os.WriteFile(path, bad, 0o600))
		m.refused(1, []string{"damaged"}, "firmware", "flash", twoID, path)
	}
	seen(t, "packages for another device, cut off, altered, empty: refused, nothing counted")
}

// cutFlash starts a flash of a device that stalls in the middle of it, and cuts the power there.
func (m *machine) cutFlash(id, path string) {
	m.t.Helper()
	done := make(chan error, 1)
	ctx := within(m.t, stepLimit)
	go func() {
		_, err := m.Ctl(ctx, "firmware", "flash", id, path)
		done <- err
	}()
	// The attempt is open before the device is touched, and the device is half written when it stalls.
	for ctx.Err() == nil {
		if o := decode[struct{ Attempts []struct{ Target string } }](m.t, []byte(m.ctl("counter", "show", "-o", "json"))); len(o.Attempts) == 2 {
			break
		}
	}
	m.Kill()
	if err := <-done; err == nil {
		m.t.Error("the flash ended before the power was cut")
	}
}

// firmwareOf checks what a device runs and how well that can be told.
func (s *counterSuite) firmwareOf(t *testing.T, m *machine, id, version, strength string) {
	t.Helper()
	list := decode[struct {
		Devices []struct{ ID, Running, Strength, Problem string }
	}](t, []byte(m.asks("firmware", "list", "-o", "json")))
	for _, d := range list.Devices {
		if d.ID != id {
			continue
		}
		if version != "" && d.Running != version || d.Running == "" || d.Strength != strength || d.Problem != "" {
			t.Errorf("firmware of %s: %+v, want %q by its %s", id, d, version, strength)
		}
		return
	}
	t.Errorf("%s is not in the list: %+v", id, list)
}

// device checks the verdict on a device, as hw list shows it.
func (m *machine) device(id, decision, code string) {
	m.t.Helper()
	list := decode[struct {
		Devices []struct {
			ID      string
			Driver  string
			Verdict struct{ Decision, Code, Reason string }
		}
	}](m.t, []byte(m.asks("hw", "list", "-o", "json")))
	for _, d := range list.Devices {
		if d.ID != id {
			continue
		}
		if d.Verdict.Decision != decision || d.Verdict.Code != code {
			m.t.Errorf("%s is %+v, want %s, %s", id, d.Verdict, decision, code)
		}
		if decision != "released" && d.Driver != "" {
			m.t.Errorf("%s is %s and bound to %s", id, decision, d.Driver)
		}
		return
	}
	m.t.Errorf("%s is not in %+v", id, list)
}
