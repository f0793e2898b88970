package systems

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/hw/flash"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// flashed: a disk that was full of somebody's data is flashed as `image flash` does it, and boots as hardware does.
func (s *counterSuite) flashed(t *testing.T) {
	t.Parallel()
	const size = 1 << 30 // more than the image: DATA grows
	dir := s.machine("flashed")
	must(t, os.MkdirAll(dir, 0o755))
	path := filepath.Join(dir, "disk.img")
	f, err := os.Create(path)
	must(t, err)
	for at := int64(0); at < size; at += 16 << 20 {
		_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, 64<<10), at)
		must(t, err)
	}
	must(t, errors.Join(f.Truncate(size), f.Close()))

	image := filepath.Join(s.image, builder.DiskFile)
	source, err := flash.OpenSource(t.Context(), image)
	must(t, err)
	target, err := flash.Look(path)
	must(t, err)
	must(t, flash.Write(t.Context(), source, target, flash.Options{}))
	was, err := box.Partition(image, disk.Data)
	must(t, err)
	is, err := box.Partition(path, disk.Data)
	must(t, err)
	if is.Size <= was.Size {
		t.Errorf("DATA has %d bytes on a larger disk, %d in the image", is.Size, was.Size)
	}

	m := boot(t, box.Options{Image: s.image, Dir: dir, SecureBoot: true, Cert: certificate(t), CPUs: sideBySide, Memory: "1536M"})
	seen(t, "flashed disk, UEFI with Secure Boot: %s", m.released("provisioned"))
	m.login()
	m.contested(t, dir)
	m.ctl("power", "reboot")
	m.released("clean")
	m.off()
}

// contested: a configuration in which two want one NIC is refused with both places, and nothing is counted.
func (m *machine) contested(t *testing.T, dir string) {
	t.Helper()
	before := m.counter()
	path := filepath.Join(dir, "contested.yaml")
	must(t, os.WriteFile(path, []byte(`version: 1
network: {management: {nic: "mac:52:54:00:72:61:01"}}
plugins:
  dataplane:
    links:
      - {nic: "mac:52:54:00:72:61:01", name: data0}
`), 0o600))
	m.refused(3, []string{"contested.yaml:6:15", "is also wanted by", "line 2", "only one can have it"}, "config", "apply", path)
	if after := m.counter(); after != before {
		t.Errorf("counter %+v before and %+v after", before, after)
	}
	seen(t, "one NIC for the management network and the dataplane: refused, with both places; nothing counted")
}

// managementPlace is where QEMU puts the first NIC of a machine with three disks of which none shares a controller.
const managementPlace = "pci:0000:00:04.0"

// reflash: somebody asks for the recovery console and has the image of an update bundle written: from a stick with a
// FAT file system, as it is copied there on any computer, and from a web server over the NIC that the image's policy
// leaves for that.
func (s *counterSuite) reflash(t *testing.T) {
	dir := s.machine("reflash")
	image := filepath.Join(dir, "image-9.5")
	bundle, err := box.Variant(within(t, bootLimit), s.image, builder.Options{
		Flavour: "full", Out: image, Version: "9.5", QuarantineNIC: managementPlace,
	})
	must(t, err)
	// A variant is only an image; its ratchetctl is that of the image it was made from.
	must(t, os.Link(filepath.Join(s.image, builder.ApplianceFile), filepath.Join(image, builder.ApplianceFile)))
	stick := filepath.Join(dir, "stick.img")
	must(t, box.Sparse(stick, 128<<20))
	tool(t, nil, "mkfs.fat", "-F", "32", "-n", "RESCUE", stick)
	tool(t, nil, "mcopy", "-i", stick, bundle, "::/ratchet-9.5.bundle")
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.ServeFile(w, r, bundle)
	}))
	defer server.Close()

	o := s.options(t, dir)
	o.Image, o.UEFI, o.Memory = image, true, "1536M"
	o.Disks = append(o.Disks, vm.Disk{Path: stick, Model: "usb", Serial: "stick"})
	m := boot(t, o)
	m.released("provisioned")
	m.login()
	m.ctl("recovery", "enter", "--reboot")
	_, err = m.Expect(within(t, bootLimit), `Recovery console: it was asked for before the restart`)
	must(t, err)
	_, err = m.ExpectLine(within(t, stepLimit), `device +serial:stick (RELEASED|QUARANTINED)`) // usb-storage takes its time, sometimes more than provisioning
	must(t, err)
	reflash := func(from string) string {
		m.answers(`recovery> `, strings.TrimSpace("reflash B "+from))
		done, err := m.ExpectLine(within(t, bootLimit), `slot B holds image .*|not done: .*`)
		must(t, err)
		return done.Text
	}
	done := reflash("")
	if !strings.Contains(done, "image 9.5 from /dev/") || !strings.Contains(done, "ratchet-9.5.bundle") {
		t.Fatal(done)
	}
	seen(t, "update bundle on a FAT stick, in the recovery console: %s", done)
	// The machine that runs QEMU is 10.0.2.2 to its guests.
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	must(t, err)
	done = reflash("http://10.0.2.2:" + port + "/update.bundle")
	if !strings.Contains(done, "image 9.5 from http://10.0.2.2") || asked.Load() != 1 {
		t.Fatalf("%s; the server was asked %d times", done, asked.Load())
	}
	seen(t, "update bundle over the quarantine NIC, in the recovery console: %s", done)
	m.answers(`recovery> `, "continue")
	m.released("closing")
	s.slotHolds(t, dir, disk.ESPB, filepath.Join(image, builder.SignedFile))
	m.off()
}

// slotHolds compares what firmware would start from a slot with an image.
func (s *counterSuite) slotHolds(t *testing.T, dir, slot, image string) {
	t.Helper()
	want, err := os.ReadFile(image)
	must(t, err)
	path := filepath.Join(dir, "disk.img")
	p, err := box.Partition(path, slot)
	must(t, err)
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	got, err := esp.Read(io.NewSectionReader(f, p.Start, p.Size), p.Size)
	must(t, err)
	if got.Length != int64(len(want)) || got.SHA256 != sha256.Sum256(want) {
		t.Errorf("%s holds an image of %d bytes that is not %s", slot, got.Length, image)
	}
}
