package vm

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/qemu/guest"
)

// boot is what the machines of this package's tests start: a Debian kernel and one static Go program.
type boot struct {
	kernel, initrd string
	err            error
}

var guestImage = sync.OnceValue(func() boot {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "ratchet-guest")
	if err != nil {
		return boot{err: err}
	}
	guestDir = dir
	g, err := guest.Build(ctx, guest.Options{
		Program: "./testdata/guest", Modules: []string{"virtio_pci", "virtio_net", "virtio_blk", "nvme", "button", "evdev"}, Dir: dir,
	})
	return boot{kernel: g.Kernel, initrd: g.Initrd, err: err}
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
