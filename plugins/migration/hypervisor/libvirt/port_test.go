package libvirt

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/libvirttest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// pair is two hosts between which VMs move.
type pair [2]*libvirttest.Daemon

// shared are the hosts of all tests that need no others: VMs move beside each other, as those of one wave do.
var shared pair

// beside is how many tests run at a time. More would save half the time, which is spent waiting for QEMUs to end above all; but
// with four, on a busy host, a Linux guest once did not come up within its minute, and a cancel in post-copy did not end.
// TestManyMoves has several moves at once in any case.
const beside = "1"

func TestMain(m *testing.M) {
	libvirttest.Keeper()
	flag.Parse()
	err := flag.Set("test.parallel", beside)
	code := 1
	if err == nil {
		code, err = withDaemons(m.Run)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withDaemons(run func() int) (code int, err error) {
	// Sockets of QEMU lie deep below it, and their paths are bounded.
	dir, err := os.MkdirTemp("/tmp", "lv")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	if shared, err = hosts(dir, "a", "b"); err != nil {
		return 1, err
	}
	defer func() {
		for _, d := range shared {
			d.Close()
			if code != 0 {
				fmt.Fprintf(os.Stderr, "libvirtd %s said:\n%s", d.Name, d.Log())
			}
		}
	}()
	return run(), nil
}

// hosts starts two daemons that trust each other.
func hosts(dir string, names ...string) (d pair, err error) {
	pki, err := libvirttest.NewPKI()
	if err != nil {
		return d, err
	}
	for i := range d {
		if d[i], err = libvirttest.Start(dir, names[i], pki); err != nil {
			for _, started := range d[:i] {
				started.Close()
			}
			return d, err
		}
	}
	return d, nil
}

// own is a pair for one test: one that does to a daemon what others would notice, or that counts VMs.
func own(t *testing.T, names ...string) pair {
	t.Helper()
	d, err := hosts(filepath.Dir(shared[0].Dir), names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, one := range d {
			one.Close()
		}
	})
	return d
}

// vm is a guest without an operating system: its BIOS looks for one and writes next to nothing, without which TCG would
// lose what it writes (libvirt rounds memory to what that fault of QEMU 7.2 needs). It is called as its test is, since tests
// run beside each other on the same daemons.
func vm(t *testing.T) model.Shape {
	return model.Shape{
		Version: model.ShapeVersion, VM: strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), Machine: "pc-i440fx-7.2", Accel: "tcg", CPU: model.CPU{Model: "qemu64"}, VCPUs: 1, MaxVCPUs: 2,
		Memory: model.Memory{Boot: 32 << 20},
		NICs:   []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "segment", Addr: "0x3"}},
		Others: []model.Device{{ID: "agent", Args: "virtserialport,name=" + wire.Port}},
	}
}

func (d pair) config(i int, moves *Moves) Config {
	return Config{
		Name: d[i].Name, Address: "unix:" + d[i].Socket, Stream: "127.0.0.1", Listen: "127.0.0.1",
		Networks: domxml.Networks{"segment": "user"}, Moves: moves,
	}
}

// ports connects to both daemons, as one manager does.
func (d pair) ports(t *testing.T) [2]*Port {
	t.Helper()
	moves := &Moves{}
	var list [2]*Port
	for i := range list {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		p, err := Dial(ctx, d.config(i, moves))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		list[i] = p
	}
	return list
}

// start starts a VM on the first host, and sees to it that nothing is left of it.
func (d pair) start(t *testing.T, s model.Shape) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	doc, err := domxml.Build(s, domxml.Networks{"segment": "user"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Dial(ctx, d.config(0, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	t.Cleanup(func() { d.clear(s.VM) })
	if _, err := p.conn.Create(ctx, doc.String(), 0); err != nil {
		t.Fatal(err)
	}
}

// clear leaves nothing of a VM at either daemon.
func (d pair) clear(vm string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i := range d {
		p, err := Dial(ctx, d.config(i, nil))
		if err != nil {
			continue
		}
		if dom, err := p.lookup(ctx, vm); err == nil {
			_ = p.conn.Destroy(ctx, dom)
			_ = p.forget(ctx, dom)
		}
		p.Close()
	}
}

// long leaves a test to runs without -short: the race detector's sees all code of a move in those that stay.
func long(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
}

func TestPort(t *testing.T) {
	long(t)
	t.Parallel()
	hypervisortest.Suite(t, func(t *testing.T) hypervisortest.Rig {
		t.Parallel()
		s := vm(t)
		shared.start(t, s)
		p := shared.ports(t)
		now, err := p[0].Describe(t.Context(), s.VM)
		if err != nil {
			t.Fatal(err)
		}
		return hypervisortest.Rig{
			Source: p[0], Target: p[1], SourceName: p[0].conf.Name, TargetName: p[1].conf.Name, Shape: now,
			KillTarget: func() { shared[1].KillVM(s.VM) },
			Reopen: func(t *testing.T) (hypervisor.Port, hypervisor.Port) {
				p[0].Close()
				p[1].Close()
				p = shared.ports(t)
				return p[0], p[1]
			},
			Agent: true,
		}
	})
}
