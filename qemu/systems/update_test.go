package systems

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/qemu/box"
)

// updateConfig has a box that trusts an image quickly.
const updateConfig = `version: 1
hostname: updated
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
update: {healthy: 2s, trial: 45s}
`

// variant builds an image that differs from the one under test, and the update to it.
func variant(t *testing.T, dir, image, version string, security uint, fault string) string {
	t.Helper()
	path, err := box.Variant(within(t, bootLimit), image, builder.Options{
		Flavour: "full", Out: filepath.Join(dir, "image-"+version), Version: version, SecurityVersion: security, Fault: fault,
	})
	must(t, err)
	return path
}

// updates is `ratchetctl update status -o json`.
type updates struct {
	Running, First, Next, Version, Blocked string
	Healthy                                bool
	Boots, Floor                           int
	Slots                                  []struct {
		Name, Digest, Code string
		SecurityVersion    int `json:"security_version"`
	}
}

func (m *machine) updates() updates {
	m.t.Helper()
	return decode[updates](m.t, []byte(m.asks("update", "status", "-o", "json")))
}

// starts waits until an image says that it runs, and for its verdict.
func (m *machine) starts(version, code string) {
	m.t.Helper()
	_, err := m.ExpectLine(within(m.t, bootLimit), `ratchet: image `+version+` `)
	must(m.t, err)
	m.released(code)
}

// healthy waits until core has called the boot healthy.
func (m *machine) healthy(slot string) {
	m.t.Helper()
	_, err := m.ExpectLine(within(m.t, bootLimit), `ratchet: healthy: slot `+slot+`,`)
	must(m.t, err)
}

// update boots a box as hardware does and updates it: an image that works stays, one that panics does not.
func (s *counterSuite) update(t *testing.T) {
	good := variant(t, s.dir, s.image, "9.1", 1, "")
	panics := variant(t, s.dir, s.image, "9.2", 2, "panic")
	m := boot(t, box.Options{
		CPUs:  sideBySide,
		Image: s.image, Dir: s.machine("update"), Config: []byte(updateConfig), UEFI: true, Memory: "1536M",
		ExtraArgs: []string{"-device", "i6300esb", "-action", "watchdog=reset"},
	})
	m.released("provisioned")
	m.login()
	m.healthy("A")

	begin := time.Now()
	out := m.ctl("update", "apply", good, "--reboot")
	seen(t, "update: %s (%.1f s with upload)", strings.TrimSpace(out), time.Since(begin).Seconds())
	m.starts("9.1", "closing")
	m.healthy("B")
	if u := m.updates(); u.Running != "B" || u.First != "B" || u.Boots != 0 || !u.Healthy || u.Slots[1].SecurityVersion != 1 {
		t.Errorf("after the update: %+v", u)
	}

	m.ctl("update", "apply", panics, "--reboot")
	_, err := m.ExpectLine(within(t, bootLimit), `ratchet: FAULT panic`)
	must(t, err)
	m.starts("9.1", "closing")
	m.healthy("B")
	if u := m.updates(); u.Running != "B" || u.First != "B" || u.Slots[0].SecurityVersion != 2 {
		t.Errorf("after the panic: %+v", u)
	}
	s.attack(t, rowSlots, "new image panics", "the slot before runs again, released, closing")
	seen(t, "an image that panics: the slot before runs again")
	m.off()
}
