package bench

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/demo"
	"github.com/ratchetos/ratchet/qemu/s3server"
	"github.com/ratchetos/ratchet/qemu/vm"
)

const (
	bootRuns  = 5
	bootLimit = 4 * time.Minute // of one power-on
	dataDisk  = 1 << 30

	goalReady    = "<= 2.5"
	goalCommands = "<= 25"
)

// boot measures clean boots: of a machine that was provisioned, configured and powered off before, with the three
// plugins of the demonstration. Its times are those of the guest's clock under emulation.
func (s *session) boot(ctx context.Context) error {
	dir, err := s.folder("boot")
	if err != nil {
		return err
	}
	s3, err := s3server.Start(ctx, s3server.Options{Dir: filepath.Join(dir, "s3")})
	if err != nil {
		return err
	}
	defer s3.Stop()

	full, err := s.boots(ctx, "full", filepath.Join(dir, "full"), s3, false, bootRuns)
	if err != nil {
		return err
	}
	pick := func(of func(bootFigures) float64) float64 {
		var values []float64
		for _, f := range full {
			values = append(values, of(f))
		}
		return Median(values)
	}
	record := func(name string, value float64, unit, goal string, n int) {
		s.figures.Record("boot."+name, Figure{Value: value, Unit: unit, Goal: goal, N: n})
	}
	record("init_to_ready", pick(func(f bootFigures) float64 { return f.initToReady }), "s", goalReady, bootRuns)
	record("kernel_to_ready", pick(func(f bootFigures) float64 { return f.ready }), "s", "", bootRuns)
	record("tpm_to_box_verdict", pick(func(f bootFigures) float64 { return f.boxVerdict }), "s", "<= 0.5", bootRuns)
	record("unseal", pick(func(f bootFigures) float64 { return f.unseal }), "s", "<= 1", bootRuns)
	record("tpm_to_all_verdicts", pick(func(f bootFigures) float64 { return f.allVerdict }), "s", "<= 1.5", bootRuns)
	record("tpm_commands", pick(func(f bootFigures) float64 { return float64(f.commands) }), "commands", goalCommands, bootRuns)
	s.recordMemory("full", full[bootRuns-1].idle)

	cloud, err := s.boots(ctx, "cloud", filepath.Join(dir, "cloud"), s3, false, 1)
	if err != nil {
		return err
	}
	record("cloud_init_to_ready", cloud[0].initToReady, "s", goalReady, 1)
	s.recordMemory("cloud", cloud[0].idle)

	uefi, err := s.boots(ctx, "full", filepath.Join(dir, "uefi"), s3, true, 1)
	if err != nil {
		return err
	}
	record("uefi_init_to_ready", uefi[0].initToReady, "s", goalReady, 1)
	record("uefi_tpm_to_box_verdict", uefi[0].boxVerdict, "s", "<= 0.5", 1)
	record("uefi_tpm_to_all_verdicts", uefi[0].allVerdict, "s", "<= 1.5", 1)
	record("uefi_tpm_commands", float64(uefi[0].commands), "commands", goalCommands, 1)
	record("uefi_power_on_to_ready", uefi[0].wall.Seconds(), "s", "", 1)
	return nil
}

// bootFigures are those of one power-on.
type bootFigures struct {
	timing
	wall time.Duration      // on the host, from power-on to ready
	idle *apipb.StatusReply // after a rest; nil when it was not asked for
}

// boots provisions a machine and boots it n times more. The last boot is left to rest and asked for its memory.
func (s *session) boots(ctx context.Context, flavour, dir string, s3 *s3server.Server, uefi bool, n int) ([]bootFigures, error) {
	if _, err := s.build(ctx, flavour); err != nil {
		return nil, err
	}
	qmp, err := freePort()
	if err != nil {
		return nil, err
	}
	o := box.Options{
		Image: s.imageDir(flavour), Dir: dir, Config: demo.Config(s3, qmp), Limit: bootLimit,
		Disks:     []vm.Disk{{Path: dir + "-data.img", Model: "nvme", Serial: "ratchet-data"}},
		NICs:      []vm.NIC{{Model: "e1000e", MAC: "52:54:00:72:61:02", Net: vm.Hub{N: 1}}, {MAC: "52:54:00:72:61:03", Net: vm.Hub{N: 1}}},
		ExtraArgs: []string{"-qmp", "tcp:127.0.0.1:" + strconv.Itoa(qmp) + ",server=on,wait=off"},
	}
	if flavour == "cloud" {
		o.NICs[0].Model = "virtio-net" // the cloud kernel drives no other
	}
	if err := box.Sparse(o.Disks[0].Path, dataDisk); err != nil {
		return nil, err
	}
	if uefi {
		o.SecureBoot = true
		if o.Cert, err = s.Cert(); err != nil {
			return nil, err
		}
	}
	var out []bootFigures
	for run := range n + 1 {
		s.note("boot %s (%d of %d, the first one provisions it)", filepath.Base(dir), run+1, n+1)
		f, err := powerOn(ctx, o, run == n && !uefi)
		if err != nil {
			return nil, fmt.Errorf("boot %s: %w", filepath.Base(dir), err)
		}
		if run > 0 {
			out = append(out, f)
		}
	}
	return out, nil
}

// powerOn runs the machine once, from power-on to power-off.
func powerOn(ctx context.Context, o box.Options, rest bool) (f bootFigures, err error) {
	start := time.Now()
	b, err := box.Boot(ctx, o)
	if err != nil {
		return f, err
	}
	defer b.Close()
	v, err := b.Verdict(ctx)
	if err != nil {
		return f, err
	}
	if v.Word != "RELEASED" {
		return f, fmt.Errorf("the box is not released: %s", v.Line)
	}
	line, err := b.Ready(ctx)
	if err != nil {
		return f, err
	}
	f.wall = time.Since(start)
	if f.timing, err = parseTiming(v.Line, line); err != nil {
		return f, err
	}
	if err := b.Login(ctx); err != nil {
		return f, err
	}
	if rest {
		if f.idle, err = settled(ctx, b); err != nil {
			return f, err
		}
	}
	if _, err := b.Ctl(ctx, "power", "off"); err != nil {
		return f, err
	}
	_, err = b.Wait(ctx)
	return f, err
}

// freePort is one that nothing listens on just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
