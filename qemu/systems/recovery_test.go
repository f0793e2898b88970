package systems

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// stickLimit is for firmware that finds its way to a USB stick on a busy host.
const stickLimit = 6 * time.Minute

// recovery follows docs/howto/recover-an-isolated-box.md: every command of it is typed here, by somebody at the
// serial console or with a signed request from afar.
func (s *counterSuite) recovery(t *testing.T) {
	t.Parallel()
	ring, _, err := keys.Development("")
	must(t, err)
	key, err := ring.RecoveryKey()
	must(t, err)
	t.Run("console", func(t *testing.T) {
		dir := s.machine("recovery")
		s.recoverBox(t, dir, key)
		s.recoverFromAfar(t, dir, filepath.Join(ring.Dir, "owner.key"))
		s.factoryReset(t, dir, key)
	})
	t.Run("stick", func(t *testing.T) { s.rescueStick(t) })
	t.Run("reflash", func(t *testing.T) { s.reflash(t) })
}

// answers waits for a text on the console and types a line.
func (m *machine) answers(pattern, line string) {
	m.t.Helper()
	_, err := m.Expect(within(m.t, bootLimit), pattern)
	must(m.t, err)
	must(m.t, m.SendLine(line))
}

// console enters the recovery console of an isolated box.
func (m *machine) console(code string) {
	m.t.Helper()
	m.answers(`the box is isolated \(`+code+`\); press Enter within .* for the recovery console`, "")
	m.answers(`recovery> `, "status")
}

// notShown checks that a secret never was on the console.
func (m *machine) notShown(secret string) {
	m.t.Helper()
	for _, l := range m.Console() {
		// A development image prints its key when it provisions the box.
		if strings.Contains(l.Text, secret) && !strings.Contains(l.Text, "DEVELOPMENT recovery key") {
			m.t.Errorf("the recovery key is on the console: %s", l.Text)
		}
	}
}

// recoverBox: a moved counter is validated without a key, a damaged ledger is accepted with it.
func (s *counterSuite) recoverBox(t *testing.T, dir, key string) {
	m := boot(t, s.options(t, dir))
	m.released("provisioned")
	m.login()
	m.off()
	s.onTPM(t, dir, func(tpm func(name string, args ...string) string) {
		tpm("tpm2_nvincrement", "-C", nvCounter, nvCounter)
	})
	m = boot(t, s.options(t, dir))
	m.console("counter-moved")
	m.answers(`recovery> `, "help")
	m.answers(`recovery> `, "log")
	m.answers(`recovery> `, "validate")
	seen(t, "recovery console, validate: %s", m.released("validated"))
	m.login()
	m.ctl("power", "reboot")
	m.released("clean")
	m.off()

	corruptLedger(t, dir)
	m = boot(t, s.options(t, dir))
	m.console("ledger-corrupt")
	m.answers(`recovery> `, "validate")
	_, err := m.ExpectLine(within(t, stepLimit), `not done: .* ledger slots are corrupt`)
	must(t, err)
	m.answers(`recovery> `, "accept")
	m.answers(`recovery key \(not shown`, "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA")
	_, err = m.ExpectLine(within(t, stepLimit), `that is not the recovery key of this box`)
	must(t, err)
	m.answers(`recovery> `, "accept")
	m.answers(`recovery key \(not shown`, key)
	seen(t, "recovery console, accept with the recovery key: %s", m.released("accepted"))
	m.notShown(key)
	m.ctl("power", "reboot")
	m.released("clean")
	m.off()
}

// recoverFromAfar: the owner signs that a disk is gone for good; the box is rebooted and forgets it. The same request
// again is refused, and so is one by somebody else.
func (s *counterSuite) recoverFromAfar(t *testing.T, dir, ownerKey string) {
	o := s.options(t, dir)
	m := boot(t, o)
	m.released("clean")
	file := filepath.Join(dir, "forget.request")
	must(t, os.WriteFile(file, []byte(m.ctl("recovery", "sign", "recover", "serial:ratchet-data", "--key", ownerKey)), 0o600))
	m.ctl("recovery", "request", file)
	m.off()

	o.Disks = nil
	m = boot(t, o)
	m.released("closing")
	var show struct{ Outcome, Pending string }
	must(t, json.Unmarshal([]byte(m.ctl("recovery", "show", "-o", "json")), &show))
	if !strings.Contains(show.Outcome, "carried out") || show.Pending != "" {
		t.Errorf("after the request: %+v", show)
	}
	if list := m.ctl("hw", "list"); strings.Contains(list, "serial:ratchet-data") {
		t.Errorf("the box has not forgotten its disk:\n%s", list)
	}
	m.refused(1, []string{"another value of the counter"}, "recovery", "request", file)
	seen(t, "signed request: %s", show.Outcome)
	m.off()
}

// factoryReset starts an isolated box over: a new box, a new configuration, and a counter that goes on.
func (s *counterSuite) factoryReset(t *testing.T, dir, key string) {
	corruptLedger(t, dir)
	o := s.options(t, dir)
	m := boot(t, o)
	m.console("ledger-corrupt")
	m.answers(`recovery> `, "factory-reset")
	m.answers(`type erase to go on: `, "erase")
	m.answers(`recovery key \(not shown`, key)
	seen(t, "recovery console, factory-reset: %s", m.released("provisioned"))
	m.notShown(key)
	m.ctlFails("status") // the login was of the box that is no more
	must(t, m.Close())
}

// ctlFails wants ratchetctl to fail, no matter how.
func (m *machine) ctlFails(args ...string) {
	m.t.Helper()
	if out, err := m.Ctl(within(m.t, stepLimit), args...); err == nil {
		m.t.Errorf("ratchetctl %s works: %s", strings.Join(args, " "), out)
	}
}

// rescueStick: an operator asks for the console before a restart, then both slots are lost, and the box starts from a
// USB stick with the same image, which writes them anew.
func (s *counterSuite) rescueStick(t *testing.T) {
	dir := s.machine("rescue")
	o := s.options(t, dir)
	o.SecureBoot, o.Cert, o.Memory = true, certificate(t), "1536M"
	m := boot(t, o)
	m.released("provisioned")
	m.login()
	m.ctl("recovery", "enter", "--reboot")
	_, err := m.Expect(within(t, bootLimit), `Recovery console: it was asked for before the restart`)
	must(t, err)
	m.answers(`recovery> `, "reflash A")
	_, err = m.ExpectLine(within(t, stepLimit), `not done: .*`)
	must(t, err)
	m.answers(`recovery> `, "continue")
	seen(t, "recovery enter: %s", m.released("clean"))
	m.off()

	wipeSlots(t, filepath.Join(dir, "disk.img"))
	uki, err := os.ReadFile(filepath.Join(s.image, builder.SignedFile))
	must(t, err)
	stick := filepath.Join(dir, "stick.img")
	must(t, disk.WriteRescue(stick, uki))
	withStick := o
	withStick.Disks = append(append([]vm.Disk(nil), o.Disks...), vm.Disk{Path: stick, Model: "usb", Serial: "rescue"})
	m = boot(t, withStick)
	// The firmware tries everything else before, which takes its time.
	_, err = m.Expect(within(t, stickLimit), `Recovery console: the image was started from a rescue stick`)
	must(t, err)
	m.answers(`recovery> `, "reflash A")
	_, err = m.ExpectLine(within(t, bootLimit), `slot A holds image .* from the rescue stick`)
	must(t, err)
	m.answers(`recovery> `, "reflash B")
	_, err = m.ExpectLine(within(t, bootLimit), `slot B holds image .* from the rescue stick`)
	must(t, err)
	m.answers(`recovery> `, "continue")
	next := m.isolated("rescue")
	places := m.masterless()
	seen(t, "started from a rescue stick under Secure Boot: isolated, no bus mastering on %s; next: %s", strings.Join(places, " "), next)
	m.types("power off", `ratchet: stopping`)
	m.ended()

	m = boot(t, o)
	line := m.released("closing")
	s.attack(t, rowSlots, "both slots lost", "started from a rescue stick: isolated, recovery console; slots written anew: released, closing")
	seen(t, "both slots lost, written from a rescue stick: %s", line)
	m.off()
}

// wipeSlots takes what firmware could start from both slots.
func wipeSlots(t *testing.T, path string) {
	t.Helper()
	for _, name := range []string{disk.ESPA, disk.ESPB} {
		p, err := box.Partition(path, name)
		must(t, err)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt(make([]byte, 1<<20), p.Start)
		must(t, errors.Join(err, f.Close()))
	}
}

// masterless reads the command register of every NIC and disk controller from outside of the guest, as the hardware
// has it, and wants bus mastering off. The kernel is locked down, so that nothing but the PCI core has written it.
func (m *machine) masterless() (places []string) {
	m.t.Helper()
	const master = 1 << 2
	m.types("hw list -o json", `"devices"`)
	for range 5 { // two NICs, two disks and the stick's controller
		d, err := m.ExpectLine(within(m.t, stepLimit), `"place": "pci:0000:([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])`)
		must(m.t, err)
		var at [3]uint64
		for i := range at {
			at[i], err = strconv.ParseUint(d.Groups[1+i], 16, 8)
			must(m.t, err)
		}
		if command := m.pciRead(at[0]<<16 | at[1]<<11 | at[2]<<8 | 4); command&master != 0 {
			m.t.Errorf("%s: command register %#x on an isolated box", d.Groups[0], command&0xffff)
		}
		places = append(places, strings.TrimPrefix(d.Groups[0], `"place": "`))
	}
	return places
}

// pciRead reads a register of configuration space through the ports of PCI's first access mechanism.
func (m *machine) pciRead(address uint64) uint64 {
	m.t.Helper()
	monitor := func(line string) (out string) {
		must(m.t, m.QMP().Do(within(m.t, stepLimit), "human-monitor-command", map[string]any{"command-line": line}, &out))
		return out
	}
	monitor(fmt.Sprintf("o /w 0xcf8 %#x", 1<<31|address))
	_, value, _ := strings.Cut(strings.TrimSpace(monitor("i /w 0xcfc")), "= ")
	n, err := strconv.ParseUint(value, 0, 32)
	must(m.t, err)
	return n
}
