package systems

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/sign"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// counterConfig has a plugin that wants a NIC, so that isolation has something to withhold.
const counterConfig = `version: 1
hostname: %s
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
plugins:
  dataplane:
    links:
      - {nic: "mac:52:54:00:72:61:02", name: data0, addresses: [192.0.2.1/24]}
`

// sideBySide is how many processors a machine has that runs beside another one: two emulated processors cost a third
// more of the host than one, and there is nothing left for the second. Machines that run alone have two.
const sideBySide = 1

// maxCommands is the goal for a clean boot: real TPMs take 10 to 100 ms for each.
const maxCommands = 25

// TestSystemSecureCounter follows one machine through its life and then attacks copies of it, one way each. The boots
// are direct kernel boots (PCR 11 is zero there) but for one under UEFI with Secure Boot, which runs beside them.
func TestSystemSecureCounter(t *testing.T) {
	dir, image := workspace(t, "secure-counter", "full")
	s := &counterSuite{dir: dir, image: image}
	t.Cleanup(func() { s.complete(t) }) // after all that runs side by side
	t.Run("life", func(t *testing.T) {
		t.Parallel()
		s.life(t)
		t.Run("attacks", s.attacks)
		t.Run("bus", s.bus)
		t.Run("intents", s.intents)
		t.Run("power", s.power)
	})
	t.Run("uefi", s.uefi)
	t.Run("unsigned", s.unsigned)
	t.Run("release", s.release)
	t.Run("devices", s.devices)
	t.Run("hotplug", s.hotplug)
	t.Run("vault", s.vault)
	t.Run("update", func(t *testing.T) {
		t.Parallel()
		s.update(t)
		long(t, "slots", s.slots)
		long(t, "faults", s.updateFaults)
	})
	long(t, "recovery", s.recovery)
	long(t, "matrix", s.matrix)
	long(t, "boots from", s.bootsFrom)
	long(t, "flashed", s.flashed)
}

type counterSuite struct {
	dir, image string
	shown      shown
}

func (s *counterSuite) machine(name string) string { return filepath.Join(s.dir, name) }

// options of a machine with a NIC and a disk beside those it needs to boot.
func (s *counterSuite) options(t *testing.T, dir string) box.Options {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	data := filepath.Join(dir, "data.img")
	must(t, box.Sparse(data, 64<<20))
	return box.Options{
		Image: s.image, Dir: dir, CPUs: sideBySide, Config: fmt.Appendf(nil, counterConfig, "first"),
		NICs:  []vm.NIC{{Model: "e1000e", MAC: "52:54:00:72:61:02", Net: vm.Hub{N: 1}}},
		Disks: []vm.Disk{{Path: data, Model: "nvme", Serial: "ratchet-data"}},
	}
}

// config writes a configuration that differs in its host name.
func (s *counterSuite) config(t *testing.T, hostname string) string {
	t.Helper()
	path := filepath.Join(s.dir, hostname+".yaml")
	must(t, os.WriteFile(path, fmt.Appendf(nil, counterConfig, hostname), 0o600))
	return path
}

// life: provisioned, restarted, changed twice – once in order, once with a power cut – and switched off. It leaves
// three copies: "young" from before the changes, "old" from after them, and the machine itself as "life".
func (s *counterSuite) life(t *testing.T) {
	dir := s.machine("life")
	m := boot(t, s.options(t, dir))
	line := m.released("provisioned")
	m.login()
	first := m.counter()
	seen(t, "provisioned: %s", line)

	m.ctl("power", "reboot")
	line = m.released("clean")
	commands := tpmCommands(t, line)
	if commands > maxCommands {
		t.Errorf("a clean boot took %d TPM commands, at most %d are allowed", commands, maxCommands)
	}
	m.counts(first.Counter, first.Counter, "0")
	seen(t, "clean restart: %s", line)
	m.off()
	must(t, box.Clone(s.machine("young"), dir))

	m = boot(t, s.options(t, dir))
	m.released("clean")
	n := number(t, first.Counter)
	m.apply(s.config(t, "second"))
	m.counts(text(n+1), text(n), "1")
	m.ctl("power", "reboot")
	m.released("closing")
	m.counts(text(n+1), text(n+1), "0")
	m.runs("second")
	seen(t, "config apply: counter %d, closed by the next boot, configuration in force", n+1)

	m.apply(s.config(t, "third"))
	m.Kill()
	m = boot(t, s.options(t, dir))
	m.released("closing")
	m.counts(text(n+2), text(n+2), "0")
	m.runs("third")
	m.off()
	seen(t, "power cut after an apply: counter %d, closed, configuration in force", n+2)
}

func (m *machine) apply(path string) {
	m.t.Helper()
	m.ctl("config", "apply", path)
}

// runs checks that the configuration with this host name is in force.
func (m *machine) runs(hostname string) {
	m.t.Helper()
	status := decode[struct{ Hostname string }](m.t, []byte(m.ctl("status", "-o", "json")))
	if yaml := m.ctl("config", "show"); status.Hostname != hostname || yaml != fmt.Sprintf(counterConfig, hostname) {
		m.t.Fatalf("the box is called %q and runs\n%s\nwant %q", status.Hostname, yaml, hostname)
	}
}

var commandsIn = regexp.MustCompile(`\((\d+) TPM commands`)

func tpmCommands(t *testing.T, verdict string) int {
	t.Helper()
	m := commandsIn.FindStringSubmatch(verdict)
	if m == nil {
		t.Fatalf("no number of TPM commands in %q", verdict)
	}
	return number(t, m[1])
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

func text(n int) string { return strconv.Itoa(n) }

// uefi boots as hardware does: the firmware checks our signature and the stub measures the image.
func (s *counterSuite) uefi(t *testing.T) {
	t.Parallel()
	o := s.options(t, s.machine("uefi"))
	o.SecureBoot, o.Cert, o.Memory = true, certificate(t), "1536M"
	m := boot(t, o)
	line := m.released("provisioned")
	m.login()
	c := m.counter()
	manifest, err := builder.ReadManifest(filepath.Join(s.image, builder.ManifestFile))
	must(t, err)
	if c.Measured.PCR11 != manifest.PCR11.SHA256 {
		t.Errorf("PCR 11 is %s, the build predicted %s", c.Measured.PCR11, manifest.PCR11.SHA256)
	}
	if !c.Measured.SecureBoot {
		t.Error("Secure Boot is off")
	}
	s.firmwareOf(t, m, "serial:ratchet-data", "", "version") // NVMe admin commands under lockdown
	seen(t, "UEFI with Secure Boot: %s, PCR 11 %.12s… as predicted", line, c.Measured.PCR11)
	m.off()
	s.replay(t, s.machine("uefi"))
	long(t, "ESP", s.onESP)
}

// unsigned puts images that nobody we trust has signed on the disk, in both slots: the firmware must not start them.
func (s *counterSuite) unsigned(t *testing.T) {
	signed, err := os.ReadFile(filepath.Join(s.image, builder.SignedFile))
	must(t, err)
	for _, c := range []struct {
		name string
		uki  func(t *testing.T) []byte
	}{
		{"unsigned image", func(t *testing.T) []byte {
			uki, err := os.ReadFile(filepath.Join(s.image, builder.UnsignedFile))
			must(t, err)
			return uki
		}},
		{"signed with another key", func(t *testing.T) []byte {
			ring, err := keys.Create(filepath.Join(s.dir, "other-keys"), "Other")
			must(t, err)
			id, err := ring.Identity(keys.SecureBoot)
			must(t, err)
			uki, err := sign.Image(signed, id)
			must(t, err)
			return uki
		}},
		{"modified after it was signed", func(*testing.T) []byte {
			uki := bytes.Clone(signed)
			uki[len(uki)/2] ^= 1
			return uki
		}},
	} {
		if c.name != "unsigned image" && testing.Short() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := s.machine(folder(c.name))
			must(t, os.MkdirAll(dir, 0o755))
			path := filepath.Join(dir, "disk.img")
			must(t, disk.Write(path, disk.Options{UKI: c.uki(t)}))
			m, err := vm.Start(t.Context(), vm.Config{
				Name: "unsigned", Dir: filepath.Join(dir, "vm"), Limit: bootLimit,
				Firmware: vm.UEFI{SecureBoot: true, Cert: certificate(t)},
				Disks:    []vm.Disk{{Path: path}},
				TPM:      &vm.TPM{Dir: filepath.Join(dir, "tpm")},
			})
			must(t, err)
			defer m.Close()
			match, err := m.Expect(within(t, bootLimit), `Access Denied|Security Violation|ratchet: image`)
			must(t, err)
			if strings.Contains(match.Text, "ratchet: image") {
				t.Fatalf("%s: the firmware started it", c.name)
			}
			s.attack(t, rowSecureBoot, c.name, "the firmware refuses it")
			seen(t, "%s: refused by the firmware", c.name)
		})
	}
}
