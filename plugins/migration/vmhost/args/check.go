package args

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

const (
	maxVCPUs   = 255 // of a board without x2APIC
	maxSlots   = 256
	maxDevices = 64
	// dimmUnit is what QEMU and guests handle plugged memory in.
	dimmUnit = 2 << 20
)

// Check finds everything in a shape that no VM can be started from, or that could not be moved again.
func Check(s model.Shape) error {
	c := &checker{ids: map[string]bool{}}
	c.board(s)
	c.memory(s.Memory)
	if n := len(s.NICs) + len(s.Disks) + len(s.Others); n > maxDevices {
		c.wrong("%d devices: at most %d", n, maxDevices)
	}
	for _, n := range s.NICs {
		c.nic(n)
	}
	for _, d := range s.Disks {
		c.disk(d)
	}
	for _, d := range s.Others {
		c.other(d)
	}
	return errors.Join(c.found...)
}

type checker struct {
	ids   map[string]bool
	found []error
}

func (c *checker) wrong(format string, args ...any) {
	c.found = append(c.found, fmt.Errorf(format, args...))
}

func (c *checker) board(s model.Shape) {
	if s.Version > model.ShapeVersion || s.Version < 1 {
		c.wrong("version %d of a shape: this program knows 1 to %d", s.Version, model.ShapeVersion)
	}
	c.word("name of the VM", s.VM)
	if s.UUID != "" && strings.Trim(s.UUID, "0123456789abcdefABCDEF-") != "" {
		c.wrong("uuid %q is none", s.UUID)
	}
	if s.Machine == "pc" || s.Machine == "q35" {
		c.wrong("machine %q stands for another board after an upgrade: write the one with its version, as pc-i440fx-7.2", s.Machine)
	}
	c.word("machine", s.Machine)
	if s.Accel != "kvm" && s.Accel != "tcg" {
		c.wrong("accel %q is neither kvm nor tcg", s.Accel)
	}
	c.word("CPU model", s.CPU.Model)
	for _, f := range s.CPU.Features {
		c.word("CPU feature", f)
	}
	if s.VCPUs < 1 || s.MaxVCPUs < s.VCPUs || s.MaxVCPUs > maxVCPUs {
		c.wrong("%d of %d vCPUs: a VM has 1 to its maximum, which is at most %d", s.VCPUs, s.MaxVCPUs, maxVCPUs)
	}
	b := s.Boot
	for _, path := range []string{b.Kernel, b.Initrd, b.Firmware} {
		if path != "" && !strings.HasPrefix(path, "/") {
			c.wrong("boot file %q is not an absolute path", path)
		}
	}
	if b.Kernel == "" && (b.Initrd != "" || b.Append != "") {
		c.wrong("initrd and append need a kernel")
	}
}

func (c *checker) memory(m model.Memory) {
	if m.Boot < 1<<20 || m.Boot%(4<<10) != 0 {
		c.wrong("memory of %d bytes: at least 1 MiB, in whole pages", m.Boot)
	}
	pluggable := m.Max > m.Boot && m.Slots > 0 && m.Slots <= maxSlots
	if none := m.Max == 0 && m.Slots == 0; !pluggable && !none {
		c.wrong("memory: max (%d bytes) above boot (%d bytes) with 1 to %d slots, or neither max nor slots", m.Max, m.Boot, maxSlots)
	}
	total := m.Boot
	for _, d := range m.DIMMs {
		c.id("DIMM", d.ID)
		if d.Size == 0 || d.Size%dimmUnit != 0 || d.Slot < 0 || d.Slot >= m.Slots {
			c.wrong("DIMM %s: %d bytes in slot %d: multiples of 2 MiB in one of %d slots", d.ID, d.Size, d.Slot, m.Slots)
		}
		total += d.Size
	}
	for _, v := range m.VirtioMem {
		c.id("virtio-mem", v.ID)
		c.place("virtio-mem "+v.ID, v.Bus, v.Addr)
		if v.Max == 0 || v.Max%dimmUnit != 0 || v.Requested > v.Max || v.Requested%dimmUnit != 0 {
			c.wrong("virtio-mem %s: %d of %d bytes: multiples of 2 MiB", v.ID, v.Requested, v.Max)
		}
		total += v.Max
	}
	if total > m.Boot && total > m.Max {
		c.wrong("memory: %d bytes with all that is plugged, max is %d", total, m.Max)
	}
}

func (c *checker) nic(n model.NIC) {
	c.id("NIC", n.ID)
	c.word("model of NIC "+n.ID, n.Model)
	c.word("network of NIC "+n.ID, n.Network)
	if !mac(n.MAC) {
		c.wrong("NIC %s: %q is no MAC address, as 52:54:00:12:34:56", n.ID, n.MAC)
	}
	c.place("NIC "+n.ID, n.Bus, n.Addr)
}

func (c *checker) disk(d model.Disk) {
	c.id("disk", d.ID)
	// QEMU's NVMe cannot be migrated, and has no way to stop the guest at a refused write.
	if d.Model != "virtio-blk-pci" && !onController(d.Model) {
		c.wrong("disk %s: model %q cannot be moved: use virtio-blk-pci, scsi-hd or ide-hd", d.ID, d.Model)
	}
	if d.Serial != "" {
		c.word("serial of disk "+d.ID, d.Serial)
	}
	switch v := d.Source.Volume; {
	case (v == nil) == (d.Source.Local == ""):
		c.wrong("disk %s: its source is either a volume or a local path", d.ID)
	case v == nil && !strings.HasPrefix(d.Source.Local, "/"):
		c.wrong("disk %s: %q is not an absolute path", d.ID, d.Source.Local)
	case v != nil:
		c.word("volume of disk "+d.ID, v.Name)
		if _, _, err := Server(v.Server); err != nil {
			c.wrong("disk %s: %w", d.ID, err)
		}
	}
	if !onController(d.Model) {
		c.place("disk "+d.ID, d.Bus, d.Addr)
		return
	}
	if d.Bus != "" {
		c.word("bus of disk "+d.ID, d.Bus)
	}
	for part := range strings.SplitSeq(d.Addr, ":") {
		if n, err := strconv.Atoi(part); d.Addr != "" && (err != nil || n < 0) {
			c.wrong("disk %s: address %q is neither TARGET:LUN nor a unit", d.ID, d.Addr)
			return
		}
	}
}

// unmovable are devices that exist on one host only, or that read the host's files.
var unmovable = []string{"guest-loader", "ivshmem-doorbell", "ivshmem-plain", "loader", "nvme", "usb-host", "vfio-pci", "vhost-user-fs-pci"}

func (c *checker) other(d model.Device) {
	driver, _, _ := strings.Cut(d.Args, ",")
	driver = strings.TrimPrefix(driver, "driver=")
	c.word("device "+d.ID, driver)
	if slices.Contains(unmovable, driver) {
		c.wrong("device %s: %s cannot be moved", d.ID, driver)
	}
	if strings.ContainsFunc(d.Args, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Contains(d.Args, ",,") {
		c.wrong("device %s: %q is no value of -device", d.ID, d.Args)
	}
	if id := property(d.Args, "id"); id != d.ID {
		c.wrong("device %s: its arguments give it the id %q", d.ID, id)
	}
	if d.ID != "" {
		c.id("device", d.ID)
	}
	if name := property(d.Args, "chardev"); name != "" {
		c.word("channel of device "+d.ID, name)
		if name == "monitor" {
			c.wrong("device %s: the monitor is not a channel for guests", d.ID)
		}
	}
}

// id is a name that nothing else in the VM has. vCPUs are called cpu1 and so on.
func (c *checker) id(what, id string) {
	c.word("id of a "+what, id)
	if number, ok := strings.CutPrefix(id, "cpu"); ok {
		if _, err := strconv.Atoi(number); err == nil {
			c.wrong("%s: the id %q is a vCPU's", what, id)
		}
	}
	if c.ids[id] {
		c.wrong("%s: a second device has the id %q", what, id)
	}
	c.ids[id] = true
}

func (c *checker) word(what, s string) {
	if !Word(s) {
		c.wrong("%s: %q: letters, digits and any of -_.+ and at most 64 of them", what, s)
	}
}

// Word tells whether a text can be a name: QEMU takes it as it is, whatever stands around it, and so does a file system.
func Word(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '-' || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.+", r)
	})
}

// place is a PCI address: a bus by its name, and a slot with an optional function.
func (c *checker) place(what, bus, addr string) {
	if bus != "" {
		c.word("bus of "+what, bus)
	}
	slot, function, hasFunction := strings.Cut(strings.TrimPrefix(addr, "0x"), ".")
	n, err := strconv.ParseUint(slot, 16, 8)
	f, ferr := strconv.ParseUint(strings.TrimPrefix(function, "0x"), 16, 8)
	if addr != "" && (err != nil || n > 31 || hasFunction && (ferr != nil || f > 7)) {
		c.wrong("%s: address %q is no slot, as 0x3", what, addr)
	}
}

func mac(s string) bool {
	parts := strings.Split(s, ":")
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 16, 8); err != nil || len(p) != 2 {
			return false
		}
	}
	return len(parts) == 6
}
