package vm

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ratchetos/ratchet/image/kernel"
)

// boot is what the machines of this package's tests start: a Debian kernel and one static Go program.
type boot struct {
	kernel, initrd string
	err            error
}

var guestImage = sync.OnceValue(func() boot {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	k, err := kernel.Fetch(ctx, "cloud")
	if err != nil {
		return boot{err: err}
	}
	initrd, err := guestInitrd(ctx, k)
	return boot{kernel: k.Vmlinuz, initrd: initrd, err: err}
})

var guestDir string // of the initrd; removed by TestMain

func TestMain(m *testing.M) {
	if kernel := os.Getenv(childEnv); kernel != "" {
		deadHarness(kernel)
	}
	code := m.Run()
	if guestDir != "" {
		os.RemoveAll(guestDir)
	}
	os.Exit(code)
}

// direct is the firmware of a test guest.
func direct(t *testing.T) Direct {
	t.Helper()
	b := guestImage()
	if b.err != nil {
		t.Fatal(b.err)
	}
	return Direct{Kernel: b.kernel, Initrd: b.initrd}
}

func guestInitrd(ctx context.Context, k *kernel.Kernel) (string, error) {
	dir, err := os.MkdirTemp("", "ratchet-guest")
	if err != nil {
		return "", err
	}
	guestDir = dir
	bin := filepath.Join(dir, "init")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", bin, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", err
	}
	init, err := os.ReadFile(bin)
	if err != nil {
		return "", err
	}
	closure, err := k.Closure([]string{"virtio_pci", "virtio_net", "virtio_blk", "nvme", "button", "evdev"})
	if err != nil {
		return "", err
	}
	records := []cpio.Record{
		cpio.StaticFile("init", string(init), 0o755),
		cpio.Directory("dev", 0o755),
		cpio.CharDev("dev/console", 0o600, 5, 1),
	}
	var list bytes.Buffer
	for _, m := range closure.Modules {
		if m.Builtin {
			continue
		}
		b, err := os.ReadFile(m.File)
		if err != nil {
			return "", err
		}
		records = append(records, cpio.StaticFile(m.Path[1:], string(b), 0o644))
		list.WriteString(m.Path + "\n")
	}
	records = append(records, cpio.StaticFile("modules", list.String(), 0o644))
	path := filepath.Join(dir, "initrd")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w := cpio.Newc.Writer(f)
	if err := cpio.WriteRecordsAndDirs(w, records); err != nil {
		return "", err
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return "", err
	}
	return path, f.Close()
}
