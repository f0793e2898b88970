package systems

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	tpmcounter "github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// nvCounter is C's handle (boot/counter/doc.go), written out here: the tools on the host know nothing of our code.
const nvCounter = "0x01800A01"

// attacks: what each does to a copy of the machine that is switched off, and the reason that the box must then give.
func (s *counterSuite) attacks(t *testing.T) {
	life, young := s.machine("life"), s.machine("young")
	for _, a := range []struct {
		name string
		code string
		do   func(t *testing.T, dir string)
	}{
		{"counter moved", "counter-moved", func(t *testing.T, dir string) {
			s.onTPM(t, dir, func(tpm func(name string, args ...string) string) {
				tpm("tpm2_nvincrement", "-C", nvCounter, nvCounter)
			})
		}},
		{"counter removed and made anew", "counter-moved", s.recreateCounter},
		{"ledger corrupt", "ledger-corrupt", corruptLedger},
		{"disk rolled back", "ledger-differs", func(t *testing.T, dir string) {
			must(t, box.CloneDisk(dir, young))
		}},
		{"TPM rolled back", "tpm-rolled-back", func(t *testing.T, dir string) {
			must(t, box.CloneTPM(dir, young))
		}},
		{"TPM cleared", "tpm-cleared", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "tpm")))
		}},
		{"disk from the factory", "ledger-factory", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "disk.img"))) // box.Boot makes one
		}},
	} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			dir := s.machine(strings.ReplaceAll(a.name, " ", "-"))
			must(t, box.Clone(dir, life))
			a.do(t, dir)
			m := boot(t, s.options(t, dir))
			next := m.isolated(a.code)
			if a.name == "counter moved" {
				// Once is enough: the next boot comes to the same end, and not before it is asked for.
				m.types("power reboot", `ratchet: stopping`)
				m.isolated(a.code)
			}
			m.types("power off", `ratchet: stopping`)
			m.ended()
			seen(t, "%s: isolated, %s, next: %s", a.name, a.code, next)
		})
	}
	t.Run("no TPM", func(t *testing.T) {
		t.Parallel()
		dir := s.machine("no-tpm")
		must(t, box.Clone(dir, life))
		o := s.options(t, dir)
		o.NoTPM = true
		m := boot(t, o)
		next := m.isolated("tpm-absent")
		m.types("power off", `ratchet: stopping`)
		m.ended()
		seen(t, "no TPM: isolated, tpm-absent, next: %s", next)
	})
}

// isolated waits until the box says that it is isolated and why, then looks around on its console: core runs and
// answers, nothing is bound, nothing was started. It returns what the box says to do next.
func (m *machine) isolated(code string) (next string) {
	m.t.Helper()
	m.verdict("ISOLATED", code)
	match, err := m.ExpectLine(within(m.t, stepLimit), `ratchet: next: (.*)`)
	must(m.t, err)
	next = match.Groups[1]
	if line := m.ready(); !strings.HasPrefix(line, "0 of ") {
		m.t.Errorf("plugins were started on an isolated box: %s", line)
	}
	_, err = m.ExpectLine(within(m.t, stepLimit), `this console takes ratchetctl commands`)
	must(m.t, err)
	m.types("ratchetctl counter show", `^ISOLATED  `)
	m.types("hw list -o json", `"devices"`)
	for range 4 { // two NICs, two disks' controllers
		d, err := m.ExpectLine(within(m.t, stepLimit), `"driver": "([^"]*)"`)
		must(m.t, err)
		if d.Groups[1] != "" {
			m.t.Errorf("a device is bound on an isolated box: driver %q", d.Groups[1])
		}
	}
	return next
}

// onTPM lets tools of the host at the TPM of a machine that is switched off.
func (s *counterSuite) onTPM(t *testing.T, dir string, do func(func(name string, args ...string) string)) {
	t.Helper()
	srv, err := (&vm.TPM{Dir: filepath.Join(dir, "tpm")}).Serve(t.Context())
	must(t, err)
	defer srv.Stop()
	do(func(name string, args ...string) string {
		t.Helper()
		return tool(t, []string{"TPM2TOOLS_TCTI=" + srv.TCTI}, name, args...)
	})
}

// recreateCounter is the attack that the index's Name does not show: who knows the recovery key removes C and defines it
// again with the same attributes, and the TPM starts it one above the highest value it ever had.
func (s *counterSuite) recreateCounter(t *testing.T, dir string) {
	ring, _, err := keys.Development("")
	must(t, err)
	key, err := ring.RecoveryKey()
	must(t, err)
	owner := "hex:" + hex.EncodeToString(tpmcounter.OwnerAuth(key))
	s.onTPM(t, dir, func(tpm func(name string, args ...string) string) {
		attributes := regexp.MustCompile(`attributes:\s+friendly: (\S+)`).FindStringSubmatch(tpm("tpm2_nvreadpublic", nvCounter))
		if attributes == nil {
			t.Fatal("tpm2_nvreadpublic shows no attributes")
		}
		wanted := strings.TrimSuffix(attributes[1], "|written")
		tpm("tpm2_nvundefine", "-C", "o", "-P", owner, nvCounter)
		tpm("tpm2_nvdefine", "-C", "o", "-P", owner, "-a", wanted, "-s", "8", nvCounter)
		tpm("tpm2_nvincrement", "-C", nvCounter, nvCounter)
	})
}

// corruptLedger flips one bit in each ledger slot.
func corruptLedger(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "disk.img")
	p, err := box.Partition(path, disk.Ledger)
	must(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	// The slots' places are those of boot/ledger/doc.go; 0x80 is inside their content.
	for _, slot := range []int64{0x10000, 0x50000} {
		b := make([]byte, 1)
		_, err := f.ReadAt(b, p.Start+slot+0x80)
		must(t, err)
		b[0] ^= 0x10
		_, err = f.WriteAt(b, p.Start+slot+0x80)
		must(t, err)
	}
}
