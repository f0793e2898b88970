package logwrites

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/recorded"
	"github.com/ratchetos/ratchet/qemu/guest"
	"github.com/ratchetos/ratchet/qemu/vm"
)

const (
	program = "github.com/ratchetos/ratchet/qemu/logwrites/recorder"
	// diskImages are sparse; the recording holds every write of the run.
	recordingSize = 4 << 30
	journalSize   = 1 << 30
	runLimit      = 10 * time.Minute
)

// Options of Record.
type Options struct {
	Dir  string // for the guest and its disks
	Seed uint64
	Ops  int
}

// Recording is what a guest has left.
type Recording struct {
	Log, Journal string // files
	Took         time.Duration
}

// Record runs a guest.
func Record(ctx context.Context, o Options) (Recording, error) {
	fail := func(err error) (Recording, error) { return Recording{}, fmt.Errorf("record a volume's disk: %w", err) }
	g, err := guest.Build(ctx, guest.Options{Program: program, Modules: []string{"virtio_pci", "virtio_blk", "dm-log-writes"}, Dir: o.Dir})
	if err != nil {
		return fail(err)
	}
	start := vm.Direct{Kernel: g.Kernel, Initrd: g.Initrd}
	start.Cmdline = fmt.Sprintf("console=ttyS0 quiet panic=-1 no_timer_check recorder.seed=%d recorder.ops=%d", o.Seed, o.Ops)
	r := Recording{Log: filepath.Join(o.Dir, "log.img"), Journal: filepath.Join(o.Dir, "journal.img")}
	disks := []vm.Disk{{Path: filepath.Join(o.Dir, "disk.img")}, {Path: r.Log}, {Path: r.Journal}}
	for i, size := range []int64{recorded.DiskSize, recordingSize, journalSize} {
		if err := blank(disks[i].Path, size); err != nil {
			return fail(err)
		}
	}
	m, err := vm.Start(ctx, vm.Config{Name: "recorder", Memory: "512M", Firmware: start, Disks: disks, Dir: o.Dir, NoReboot: true, Limit: runLimit})
	if err != nil {
		return fail(err)
	}
	defer m.Close()
	end, err := m.ExpectLine(ctx, `guest: (done|failed: .*)`)
	if err != nil {
		return fail(err)
	}
	if end.Groups[1] != "done" {
		return fail(fmt.Errorf("in the guest: %s", end.Groups[1]))
	}
	if _, err := m.Wait(ctx); err != nil {
		return fail(err)
	}
	r.Took = m.Elapsed()
	return r, nil
}

func blank(path string, size int64) error {
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

// Check replays the recording; see recorded.Check.
func (r Recording) Check(ctx context.Context, o Options, step int, lost func(entry int, err error)) (recorded.Result, error) {
	log, err := os.Open(r.Log)
	if err != nil {
		return recorded.Result{}, err
	}
	defer log.Close()
	journal, err := os.Open(r.Journal)
	if err != nil {
		return recorded.Result{}, err
	}
	defer journal.Close()
	return recorded.Check(ctx, o.Seed, log, journal, step, lost)
}
