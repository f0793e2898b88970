package hw

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/catalogue"
	"github.com/ratchetos/ratchet/hw/internal/sysfs"
	"github.com/ratchetos/ratchet/hw/pci"
	"github.com/ratchetos/ratchet/hw/uevent"
)

// Bind of a PCI function returns when the driver's probe has; disks come later, found by scans
// that sysfs shows only in part. A waiter decides for one function when its scan is over.
type waiter struct {
	system   *System
	function pci.Function
	entry    catalogue.Entry
	events   *uevent.Listener // nil on a tree that is not the running system's

	log      kernelLog       // nil without one
	linkDown map[string]bool // ATA ports known to be empty, "ata1"

	announced map[string]bool // paths of disks whose partitions have been read
	deaf      bool            // announcements were lost
	since     time.Time       // when the function was first seen idle, zero before
}

// limits are the longest times a healthy scan takes, by bus; spinning disks behind a SAS
// expander are slow. Reaching one is no error: what has appeared by then counts.
var limits = map[string]time.Duration{
	"pci": 5 * time.Second, "virtio": 5 * time.Second, "nvme": 15 * time.Second,
	"ata": 60 * time.Second, "scsi": 60 * time.Second, "usb": 5 * time.Second,
}

// quiet is how long a controller that has nothing more to report must stay so, by bus. It is
// for buses that do not tell when their scan is over.
var quiet = map[string]time.Duration{
	"nvme": 300 * time.Millisecond, "usb": time.Second, "ata": 2 * time.Second,
}

// silent is how long an ATA port may say nothing in a kernel log that can be read. Every port says
// how it ended, so that a healthy scan never waits this long, and giving up early on a machine under
// load would lose the boot disk.
const silent = 10 * time.Second

// kernelLog is /dev/kmsg, read without blocking from where it was opened.
type kernelLog interface{ Read([]byte) (int, error) }

// fdLog reads a descriptor as it is: os.File would park in the poller until there is more.
type fdLog int

func (fd fdLog) Read(p []byte) (int, error) { return unix.Read(int(fd), p) }

// openLog opens the kernel log at its end; without one the waiter goes by time.
func openLog() (fdLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fdLog(fd), nil
}

func (w *waiter) wait(ctx context.Context) error {
	deadline := time.Now().Add(limits[w.entry.Bus])
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if w.settled() || time.Now().After(deadline) {
			return nil
		}
		if err := w.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// pause waits for the kernel's next event, or for a short time: not everything has an event.
func (w *waiter) pause(ctx context.Context, d time.Duration) error {
	if w.events == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	for _, e := range w.events.Wait(d) {
		if e.Action == "add" && e.Subsystem == "block" {
			w.announced[filepath.Join("/sys", e.Path)] = true
		}
	}
	w.deaf = w.events.Lost() || w.deaf
	return ctx.Err()
}

// settled says whether everything behind the function has appeared and been announced. The scan is
// asked first and the disks are listed then: one that appears in between must be ready too.
func (w *waiter) settled() bool {
	scanned := w.scanned()
	children := w.system.children()[w.function.Address]
	for _, c := range children {
		if c.kind == Disk && !w.ready(c) {
			w.since = time.Time{}
			return false
		}
	}
	switch w.entry.Bus {
	case "scsi", "ata", "usb":
		return scanned
	case "nvme":
		return scanned && (len(children) > 0 || w.quiet())
	default:
		return len(children) > 0
	}
}

// scanned says whether the bus behind the function has no more to find.
func (w *waiter) scanned() bool {
	switch w.entry.Bus {
	case "scsi":
		return w.disksComplete()
	case "ata":
		return w.portsIdle() && w.disksComplete()
	case "nvme":
		return w.controllersLive()
	case "usb":
		w.authorise()
		return w.sticksComplete() && w.disksComplete() && w.quiet()
	default:
		return true
	}
}

// ready says that a disk has its node and its partitions have been read.
func (w *waiter) ready(c child) bool {
	if _, err := os.Stat(filepath.Join(w.system.root, "/dev", c.name)); err != nil {
		return false
	}
	return w.events == nil || w.deaf || w.announced[c.path]
}

// quiet says that nothing has changed for as long as this bus needs.
func (w *waiter) quiet() bool {
	if w.since.IsZero() {
		w.since = time.Now()
	}
	enough := quiet[w.entry.Bus]
	if w.log != nil {
		enough = silent
	}
	return time.Since(w.since) >= enough
}

// below lists the links in a directory of sysfs that point below the function.
func (w *waiter) below(dir string) []string {
	var found []string
	for _, link := range w.system.glob(filepath.Join(dir, "*")) {
		if path, err := filepath.EvalSymlinks(link); err == nil && strings.HasPrefix(path, w.function.Dir()+"/") {
			found = append(found, path)
		}
	}
	return found
}

// disksComplete says that each disk the SCSI layer has found has its block device.
func (w *waiter) disksComplete() bool {
	for _, device := range w.below("/sys/bus/scsi/devices") {
		kind := sysfs.Attribute(device, "type")
		// Direct access, optical memory and zoned block devices are what sd_mod drives.
		if !slices.Contains([]string{"0", "7", "20"}, kind) {
			continue
		}
		if blocks, err := os.ReadDir(filepath.Join(device, "block")); err != nil || len(blocks) == 0 {
			return false
		}
	}
	return true
}

// portsIdle says that no port of an ATA controller is still being probed: each has shown a
// disk to the SCSI layer, or the kernel log says that its link is down, or it has been without
// a link for the quiet time. Sysfs alone does not tell an empty port from one that is starting.
func (w *waiter) portsIdle() bool {
	w.readLog()
	ports := w.below("/sys/class/ata_port")
	idle := len(ports) > 0
	for _, port := range ports {
		name := filepath.Base(port)
		// …/ata1/ata_port/ata1: the link and the SCSI host are beside, below …/ata1.
		top := filepath.Dir(filepath.Dir(port))
		if disks, _ := filepath.Glob(filepath.Join(top, "host*", "target*", "*:*:*:*")); len(disks) > 0 || w.linkDown[name] {
			continue
		}
		speeds, _ := filepath.Glob(filepath.Join(top, "link*", "ata_link", "link*", "sata_spd"))
		linked := slices.ContainsFunc(speeds, func(path string) bool { return sysfs.Attribute(path) != "<unknown>" })
		if linked {
			w.since = time.Time{} // a disk that is spinning up
			return false
		}
		idle = false
	}
	return idle || len(ports) > 0 && w.quiet()
}

// readLog notes the ports whose link the kernel has reported down since the bind. The text is
// libata's of many years; were it to change, the quiet time would decide.
func (w *waiter) readLog() {
	if w.log == nil {
		return
	}
	record := make([]byte, 8192) // /dev/kmsg gives one record a read
	for {
		n, err := w.log.Read(record)
		if errors.Is(err, unix.EPIPE) {
			continue // records were overwritten before we came; the next read gives the oldest left
		}
		if err != nil || n == 0 {
			return
		}
		_, message, _ := strings.Cut(string(record[:n]), ";")
		port, what, _ := strings.Cut(message, ": ")
		if strings.HasPrefix(port, "ata") && (strings.HasPrefix(what, "SATA link down") || strings.HasPrefix(what, "DUMMY")) {
			w.linkDown[port] = true
		}
	}
}

// controllersLive says that the NVMe controller has finished its start.
func (w *waiter) controllersLive() bool {
	controllers, err := os.ReadDir(filepath.Join(w.function.Dir(), "nvme"))
	if err != nil || len(controllers) == 0 {
		return false
	}
	for _, c := range controllers {
		if sysfs.Attribute(w.function.Dir(), "nvme", c.Name(), "state") != "live" {
			return false
		}
	}
	return true
}

// massStorage is the class of interfaces that usb-storage and uas drive.
const massStorage = "08"

// sticksComplete says that each storage interface that was authorised has shown the SCSI layer what is behind it.
// usb-storage waits a second before it looks, so that a second of quiet is none.
func (w *waiter) sticksComplete() bool {
	for _, device := range w.below("/sys/bus/usb/devices") {
		if sysfs.Attribute(device, "bInterfaceClass") != massStorage {
			continue
		}
		if found, err := filepath.Glob(filepath.Join(device, "host*", "target*", "*:*:*:*")); err != nil || len(found) == 0 {
			w.since = time.Time{}
			return false
		}
	}
	return true
}

// authorise lets the mass storage devices behind a USB controller be used. A device shows its
// interfaces only once it is authorised; one that turns out to be no storage is shut out again,
// so that what pretends to be a stick does not become a keyboard.
func (w *waiter) authorise() {
	for _, device := range w.below("/sys/bus/usb/devices") {
		if sysfs.Attribute(device, "authorized") != "0" || strings.Contains(filepath.Base(device), ":") {
			continue
		}
		w.since = time.Time{}
		attribute := filepath.Join(device, "authorized")
		if err := os.WriteFile(attribute, []byte("1"), 0); err != nil {
			continue
		}
		const hub = "09"
		interfaces, _ := filepath.Glob(filepath.Join(device, "*", "bInterfaceClass"))
		if !slices.ContainsFunc(interfaces, func(path string) bool {
			class := sysfs.Attribute(filepath.Dir(path), "bInterfaceClass")
			return class == massStorage || class == hub
		}) {
			if err := errors.Join(os.WriteFile(attribute, []byte("0"), 0), os.WriteFile(filepath.Join(device, "remove"), []byte("1"), 0)); err != nil {
				w.system.log.Warn("shut out USB device", "device", filepath.Base(device), "err", err)
			}
		}
	}
}
