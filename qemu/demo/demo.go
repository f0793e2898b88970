package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/configs"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/s3server"
	"github.com/ratchetos/ratchet/qemu/vm"
)

// Volume is the cached volume of configs/demo.yaml and Plugin the one that serves it.
const (
	Volume = "demo"
	Plugin = "gateway"
)

// dataDisk is what the volume's log and cache live on, in bytes.
const dataDisk = 1 << 30

// Options of a run.
type Options struct {
	Flavour, Version string
	Dir              string // of the machine; made anew
	MiB              int    // how much to write
	// Cert gives the only certificate Secure Boot accepts, as PEM; asked after the build, which makes the key.
	Cert func() ([]byte, error)
	Out  io.Writer
	// Stay is called at the end instead of powering off, when there is somebody to stay for.
	Stay func(ctx context.Context, m *box.Box, tap *Tap) error
}

// Run does all of it.
func Run(ctx context.Context, o Options) error {
	r := &run{Options: o, start: time.Now()}
	r.image = filepath.Join("build", "image", o.Flavour)
	if err := os.RemoveAll(o.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	defer r.s3.Stop()
	if err := r.boot(ctx); err != nil {
		return err
	}
	defer r.box.Close()
	if err := r.job(ctx); err != nil {
		return err
	}
	if err := r.show(ctx); err != nil {
		return err
	}
	if o.Stay != nil {
		return o.Stay(ctx, r.box, r.tap)
	}
	return r.powerOff(ctx)
}

// run is one run in progress.
type run struct {
	Options
	start time.Time
	image string
	s3    *s3server.Server
	box   *box.Box
	tap   *Tap
}

// step prints what is being done and returns how to say that it was.
func (r *run) step(format string, args ...any) func(format string, args ...any) {
	began := time.Now()
	what := fmt.Sprintf(format, args...)
	return func(format string, args ...any) {
		fmt.Fprintf(r.Out, "%6.1f s  %-10s %s (%.1f s)\n", time.Since(r.start).Seconds(), what, fmt.Sprintf(format, args...), time.Since(began).Seconds())
	}
}

// prepare builds the image and starts the object store, side by side.
func (r *run) prepare(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		done := r.step("image")
		m, err := builder.Options{Flavour: r.Flavour, Version: r.Version, Out: r.image, Progress: r.Out}.Build(gctx)
		if err != nil {
			return fmt.Errorf("build the image: %w", err)
		}
		done("%s %s, UKI %.1f MiB, PCR 11 %s…", m.Version, m.Flavour, float64(m.Sizes.UKI)/(1<<20), m.PCR11.SHA256[:12])
		return nil
	})
	g.Go(func() (err error) {
		done := r.step("store")
		if r.s3, err = s3server.Start(ctx, s3server.Options{Dir: filepath.Join(r.Dir, "s3")}); err != nil {
			return fmt.Errorf("start the S3 server: %w", err)
		}
		done("S3 server at %s", r.s3.Endpoint)
		return nil
	})
	if err := g.Wait(); err != nil {
		if r.s3 != nil {
			r.s3.Stop()
		}
		return err
	}
	return nil
}

// boot starts the machine and waits until its plugins serve.
func (r *run) boot(ctx context.Context) error {
	cert, err := r.Cert()
	if err != nil {
		return err
	}
	qmp, err := freePort()
	if err != nil {
		return err
	}
	data := filepath.Join(r.Dir, "data.img")
	if err := box.Sparse(data, dataDisk); err != nil {
		return err
	}
	nic := "e1000e"
	if r.Flavour == "cloud" {
		nic = "virtio-net" // that kernel has no driver for the other
	}
	done := r.step("boot")
	r.tap = new(Tap)
	r.box, err = box.Boot(ctx, box.Options{
		Image: r.image, Dir: r.Dir, Config: Config(r.s3, qmp), SecureBoot: true, Cert: cert, Stdout: r.tap, Memory: "1536M",
		Disks:     []vm.Disk{{Path: data, Model: "nvme", Serial: "ratchet-data"}},
		NICs:      []vm.NIC{{Model: nic, MAC: "52:54:00:72:61:02", Net: vm.Hub{N: 1}}, {MAC: "52:54:00:72:61:03", Net: vm.Hub{N: 1}}},
		ExtraArgs: []string{"-qmp", "tcp:127.0.0.1:" + strconv.Itoa(qmp) + ",server=on,wait=off"},
	})
	if err != nil {
		return err
	}
	v, err := r.box.Verdict(ctx)
	if err != nil {
		r.box.Close()
		return err
	}
	done("verdict %s", v.Line)
	done = r.step("plugins")
	line, err := r.box.Ready(ctx)
	if err == nil {
		err = r.box.Login(ctx)
	}
	if err != nil {
		r.box.Close()
		return err
	}
	done("%s", line)
	if v.Word != "RELEASED" {
		r.box.Close()
		return fmt.Errorf("the box is not released: %s", v.Line)
	}
	return nil
}

// Config is configs/demo.yaml with the ports and keys of this run.
func Config(s3 *s3server.Server, qmp int) []byte {
	_, port, _ := net.SplitHostPort(s3.Address)
	c := configs.Demo
	for old, value := range map[string]string{
		"http://10.0.2.2:9000": "http://10.0.2.2:" + port,
		"demo-access-key":      s3.AccessKey,
		"demo-secret-key":      s3.SecretKey,
		"demo-bucket":          s3.Bucket,
		"tcp:10.0.2.2:4444":    "tcp:10.0.2.2:" + strconv.Itoa(qmp),
	} {
		c = bytes.ReplaceAll(c, []byte(old), []byte(value))
	}
	return c
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// show prints what an operator would look at.
func (r *run) show(ctx context.Context) error {
	for _, args := range [][]string{{"status"}, {"volume", "list"}, {"hw", "list"}, {"counter", "show"}, {"dataplane", "links"}, {"migrate", "vms"}} {
		out, err := r.box.Ctl(ctx, args...)
		if err != nil {
			return err
		}
		fmt.Fprintf(r.Out, "\n$ ratchetctl %s\n%s", strings.Join(args, " "), out)
	}
	fmt.Fprintf(r.Out, "\nAPI       https://%s   (ratchetctl --address %s --config-dir %s status)\n", r.box.Forward(box.APIPort), r.box.Forward(box.APIPort), filepath.Join(r.Dir, "client"))
	fmt.Fprintf(r.Out, "NBD       %s\nconsole   %s\nstore     %s\n", r.box.NBD(Volume), filepath.Join(r.Dir, "vm", "console.log"), r.s3.Endpoint)
	return nil
}

func (r *run) powerOff(ctx context.Context) error {
	done := r.step("power off")
	if _, err := r.box.Ctl(ctx, "power", "off"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	exit, err := r.box.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait for the machine to power off: %w", err)
	}
	fmt.Fprintln(r.Out)
	done("%s", exit.Reason)
	return nil
}
