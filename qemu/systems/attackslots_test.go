package systems

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/qemu/box"
)

// slots works on a copy of the machine that update left in slot B: what the firmware remembers is lost, a slot is lost,
// and an image from before the security version rose is put back.
func (s *counterSuite) slots(t *testing.T) {
	dir := s.machine("slots")
	must(t, box.Clone(dir, s.machine("update")))
	must(t, os.MkdirAll(filepath.Join(dir, "vm"), 0o755))
	copyFile(t, filepath.Join(dir, "vm", "vars.fd"), filepath.Join(s.machine("update"), "vm", "vars.fd"))
	path, vars := filepath.Join(dir, "disk.img"), filepath.Join(dir, "vm", "vars.fd")
	on := func(version, code string) (*machine, updates) {
		t.Helper()
		m := boot(t, box.Options{Image: s.image, Dir: dir, UEFI: true, CPUs: sideBySide, Memory: "1536M"})
		m.starts(version, code)
		m.healthy("[AB]")
		return m, m.updates()
	}

	m, _ := on("9.1", "clean")
	m.ctl("update", "settle")
	m.ctl("power", "reboot")
	m.starts("9.1", "closing")
	m.healthy("[AB]")
	await(t, stepLimit, "V to rise", func() (string, bool) {
		u := m.updates()
		return fmt.Sprintf("%+v", u), u.Floor == 1
	})
	m.off()

	eraseSlot(t, path, disk.ESPB)
	m, u := on("9.1", "clean")
	if u.Running != "A" {
		t.Errorf("without slot B: %+v", u)
	}
	s.attack(t, rowSlots, "old slot lost after V rose", "released, clean, slot A runs")
	m.off()

	must(t, os.Remove(vars))
	m, u = on("9.1", "clean")
	if u.Running != "A" || u.First != "A" {
		t.Errorf("after the firmware forgot everything: %+v", u)
	}
	s.attack(t, rowSlots, "NVRAM erased", "released, clean, slot A runs, boot entries made anew")

	// A firmware that ignores BootNext is one in which it never was.
	before := vars + ".before"
	copyFile(t, before, vars)
	m.ctl("update", "apply", filepath.Join(s.dir, "image-9.2", builder.BundleFile))
	m.off()
	copyFile(t, vars, before)
	m, u = on("9.1", "closing")
	if u.Running != "A" || u.First != "A" {
		t.Errorf("after BootNext was ignored: %+v", u)
	}
	s.attack(t, rowSlots, "BootNext ignored", "released, closing, slot A runs as before")
	m.off()

	old, err := os.ReadFile(filepath.Join(s.image, builder.SignedFile))
	must(t, err)
	for _, slot := range []string{disk.ESPA, disk.ESPB} {
		putImage(t, path, slot, old)
	}
	m = boot(t, box.Options{Image: s.image, Dir: dir, UEFI: true, CPUs: sideBySide, Memory: "1536M"})
	m.verdict("ISOLATED", "image-revoked")
	must(t, m.Close())
	s.attack(t, rowDiskBack, "image of before V rose put back into both slots", "isolated, image-revoked")
	seen(t, "NVRAM erased, BootNext ignored, a slot lost: another slot runs; an image of before V rose: isolated, image-revoked")
}

// onSlot lets a test at a partition of a machine that is switched off.
func onSlot(t *testing.T, path, name string, do func(f *os.File, p disk.Partition)) {
	t.Helper()
	p, err := box.Partition(path, name)
	must(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	do(f, p)
	must(t, errors.Join(f.Sync(), f.Close()))
}

// putImage writes a slot of a machine that is switched off, as whoever has the disk can.
func putImage(t *testing.T, path, slot string, image []byte) {
	t.Helper()
	onSlot(t, path, slot, func(f *os.File, p disk.Partition) {
		v := esp.Volume{Size: p.Size, Hidden: uint32(p.Start / 512), Label: slot}
		must(t, esp.Write(io.NewOffsetWriter(f, p.Start), v, bytes.NewReader(image), int64(len(image))))
	})
}

// eraseSlot takes what firmware could start from a slot.
func eraseSlot(t *testing.T, path, name string) {
	t.Helper()
	onSlot(t, path, name, func(f *os.File, p disk.Partition) {
		_, err := f.WriteAt(make([]byte, 1<<20), p.Start)
		must(t, err)
	})
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o600))
}
