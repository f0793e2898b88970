package guest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
)

// disks lists the disks asked for. It changes nothing but for a rescan of SCSI buses, which is how a plugged disk shows
// where the controller sends no event.
func (a *Agent) disks(ctx context.Context, q wire.DiskQuery) (wire.DiskList, error) {
	if q.Driver == "" {
		return wire.DiskList{Disks: a.findDisks(q)}, nil
	}
	if q.Driver == "sd" {
		for _, host := range a.sys.names("sys/class/scsi_host") {
			_ = a.sys.set("- - -", "sys/class/scsi_host", host, "scan")
		}
	}
	var found []wire.Disk
	if !poll(ctx, func() bool { found = a.findDisks(q); return len(found) > 0 }) {
		return wire.DiskList{}, &wire.Error{Code: wire.NotReached, Text: fmt.Sprintf("no disk %q with driver %s has appeared", q.Serial, q.Driver)}
	}
	return wire.DiskList{Disks: found}, nil
}

func (a *Agent) findDisks(q wire.DiskQuery) []wire.Disk {
	out := []wire.Disk{}
	use := a.usage()
	for _, name := range a.sys.names("sys/block") {
		if !a.sys.exists("sys/block", name, "device") {
			continue // loop, ram, device mapper
		}
		d := wire.Disk{Path: "/dev/" + name, Serial: a.serial(name), Driver: a.diskDriver(name)}
		sectors, _ := strconv.ParseUint(a.sys.text("sys/block", name, "size"), 10, 54)
		d.Bytes = sectors << 9
		if (q.Serial == "" || q.Serial == d.Serial) && (q.Driver == "" || q.Driver == d.Driver) {
			d.InUse = a.inUse(name, use)
			out = append(out, d)
		}
	}
	return out
}

// serial asks in the three places where drivers show it: virtio_blk, nvme, SCSI's vital product data page 0x80.
func (a *Agent) serial(name string) string {
	for _, file := range []string{"serial", "device/serial"} {
		if s := a.sys.text("sys/block", name, file); s != "" {
			return s
		}
	}
	page, _ := os.ReadFile(a.sys.path("sys/block", name, "device/vpd_pg80"))
	if len(page) > 4 {
		return strings.TrimSpace(string(page[4:]))
	}
	return ""
}

// diskDriver is the driver of the disk, or of its controller where the disk has none (nvme).
func (a *Agent) diskDriver(name string) string {
	for _, at := range []string{"device/driver", "device/device/driver"} {
		if d := a.sys.link("sys/block", name, at); d != "" {
			return d
		}
	}
	return ""
}

// usage maps device numbers, as "254:1", to what is mounted from them, and paths to swap.
func (a *Agent) usage() map[string]string {
	use := map[string]string{}
	// Those of PID 1: the agent's own mounts may be a sandbox's.
	for line := range strings.Lines(a.sys.text("proc/1/mountinfo")) {
		f := strings.Fields(line)
		if len(f) <= 4 {
			continue
		}
		use[f[2]] = "mounted at " + f[4]
		// btrfs has device numbers of its own: what it is on stands after the optional fields (proc(5)).
		if i := slices.Index(f, "-"); i >= 0 && i+2 < len(f) && strings.HasPrefix(f[i+2], "/dev/") {
			use[f[i+2]] = "mounted at " + f[4]
		}
	}
	for line := range strings.Lines(a.sys.text("proc/swaps")) {
		if f := strings.Fields(line); len(f) > 0 {
			use[f[0]] = "swap"
		}
	}
	return use
}

// inUse looks at the disk and its partitions.
func (a *Agent) inUse(name string, use map[string]string) string {
	at := []string{filepath.Join("sys/block", name)}
	for _, sub := range a.sys.names("sys/block", name) {
		if a.sys.exists("sys/block", name, sub, "partition") {
			at = append(at, filepath.Join("sys/block", name, sub))
		}
	}
	var out []string
	for _, dir := range at {
		for _, key := range []string{a.sys.text(dir, "dev"), "/dev/" + filepath.Base(dir)} {
			if u := use[key]; u != "" {
				out = append(out, u)
			}
		}
		for _, holder := range a.sys.names(dir, "holders") {
			out = append(out, "held by "+holder)
		}
	}
	if len(out) == 0 && a.sys.claimed(a.sys.path("dev", name)) {
		return "claimed by the kernel or a program"
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}
