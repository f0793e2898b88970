package systems

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	tpmcounter "github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// nvCounter is C's handle (boot/counter/doc.go), written out here: the tools on the host know nothing of our code.
const nvCounter = "0x01800A01"

// offline is something done to a machine that is switched off, and the reason that the box must then give.
type offline struct {
	name, row, code string
	// extra cases are for `make systems` alone.
	extra bool
	do    func(t *testing.T, dir string)
}

// attacks are carried out on copies of the machine that life left.
func (s *counterSuite) attacks(t *testing.T) {
	t.Parallel()
	life, young := s.machine("life"), s.machine("young")
	for _, a := range []offline{
		{"counter moved", rowIntents, "counter-moved", false, func(t *testing.T, dir string) {
			s.onTPM(t, dir, func(tpm func(name string, args ...string) string) {
				tpm("tpm2_nvincrement", "-C", nvCounter, nvCounter)
			})
		}},
		{"counter removed and made anew, same Name", rowCleared, "counter-moved", false, s.recreateCounter},
		{"TPM2_Clear by the platform", rowCleared, "tpm-cleared", false, func(t *testing.T, dir string) {
			s.onTPM(t, dir, func(tpm func(name string, args ...string) string) {
				// Provisioning disabled it; the platform, which a real firmware locks, can allow it again.
				tpm("tpm2_clearcontrol", "-C", "p", "c")
				tpm("tpm2_clear", "-c", "p")
			})
		}},
		{"TPM replaced by an empty one", rowCleared, "tpm-cleared", true, emptyTPM},
		{"disk from the factory, TPM kept", rowCleared, "ledger-factory", true, func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "disk.img"))) // box.Boot makes one
		}},
		{"bit flip in each ledger slot", rowIntents, "ledger-corrupt", false, corruptLedger},
		{"disk of before two attempts", rowDiskBack, "ledger-differs", false, func(t *testing.T, dir string) {
			must(t, box.CloneDisk(dir, young))
		}},
		{"TPM of before two attempts", rowTPMBack, "tpm-rolled-back", false, func(t *testing.T, dir string) {
			must(t, box.CloneTPM(dir, young))
		}},
	} {
		if a.extra && testing.Short() {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			dir := s.machine(folder(a.name))
			must(t, box.Clone(dir, life))
			a.do(t, dir)
			m := boot(t, s.options(t, dir))
			next := m.isolated(a.code)
			if a.code == "counter-moved" && !a.extra {
				// Once is enough: the next boot comes to the same end, and not before it is asked for.
				m.types("power reboot", `ratchet: stopping`)
				m.isolated(a.code)
			}
			m.types("power off", `ratchet: stopping`)
			m.ended()
			s.attack(t, a.row, a.name, "isolated, %s", a.code)
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
		s.attack(t, rowTPMOdd, "no TPM", "isolated, tpm-absent, live console")
		seen(t, "no TPM: isolated, tpm-absent, next: %s", next)
	})
	// The limit that docs/explanation/secure-counter.md names: a snapshot of all of a virtual machine is a box of
	// before. It holds nothing that the box could know better from.
	t.Run("snapshot", func(t *testing.T) {
		t.Parallel()
		dir := s.machine("snapshot")
		must(t, box.Clone(dir, life))
		must(t, box.CloneDisk(dir, young))
		must(t, box.CloneTPM(dir, young))
		m := boot(t, s.options(t, dir))
		m.released("clean")
		m.runs("first")
		must(t, m.Close())
		s.attack(t, rowBothBack, "snapshot of the whole machine", "released, not detectable on the box (documented limit)")
	})
}

// folder is the name of a case as that of a folder.
func folder(name string) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(name))
}

func emptyTPM(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "tpm"))) }

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

// corruptLedger flips one bit in each ledger slot. The slots' places are those of boot/ledger/doc.go; 0x80 is inside
// their content.
func corruptLedger(t *testing.T, dir string) {
	t.Helper()
	onLedger(t, dir, func(m ledger.Medium) {
		flip(t, m, 0x10000+0x80)
		flip(t, m, 0x50000+0x80)
	})
}
