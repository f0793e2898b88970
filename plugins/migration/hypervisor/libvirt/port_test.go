package libvirt

import (
	"context"
	"fmt"
	"os"
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

// daemons are two hosts for all tests of the package.
var daemons [2]*libvirttest.Daemon

func TestMain(m *testing.M) {
	libvirttest.Keeper()
	code, err := withDaemons(m.Run)
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
	pki, err := libvirttest.NewPKI()
	if err != nil {
		return 1, err
	}
	for i, name := range []string{"a", "b"} {
		d, err := libvirttest.Start(dir, name, pki)
		if err != nil {
			return 1, err
		}
		defer func() {
			d.Close()
			if code != 0 {
				fmt.Fprintf(os.Stderr, "libvirtd %s said:\n%s", name, d.Log())
			}
		}()
		daemons[i] = d
	}
	return run(), nil
}

// vm is a guest without an operating system: its BIOS looks for one and writes next to nothing, without which TCG would
// lose what it writes (libvirt rounds memory to what that fault of QEMU 7.2 needs). It is called as its test is: tests run
// beside each other on the same daemons, which spend much of their time waiting for QEMUs to end.
func vm(t *testing.T) model.Shape {
	return model.Shape{
		Version: model.ShapeVersion, VM: strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), Machine: "pc-i440fx-7.2", Accel: "tcg", CPU: model.CPU{Model: "qemu64"}, VCPUs: 1, MaxVCPUs: 2,
		Memory: model.Memory{Boot: 32 << 20},
		NICs:   []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "segment", Addr: "0x3"}},
		Others: []model.Device{{ID: "agent", Args: "virtserialport,name=" + wire.Port}},
	}
}

func config(i int, moves *Moves) Config {
	return Config{
		Name: daemons[i].Name, Address: "unix:" + daemons[i].Socket, Stream: "127.0.0.1", Listen: "127.0.0.1",
		Networks: domxml.Networks{"segment": "user"}, Moves: moves,
	}
}

// ports connects to both daemons, as one manager does.
func ports(t *testing.T) [2]*Port {
	t.Helper()
	moves := &Moves{}
	var list [2]*Port
	for i := range list {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		p, err := Dial(ctx, config(i, moves))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		list[i] = p
	}
	return list
}

// start starts a VM on the first host, and sees to it that nothing is left of it.
func start(t *testing.T, s model.Shape) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	doc, err := domxml.Build(s, domxml.Networks{"segment": "user"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Dial(ctx, config(0, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	t.Cleanup(func() { clear(s.VM) })
	if _, err := p.conn.Create(ctx, doc.String(), 0); err != nil {
		t.Fatal(err)
	}
}

// clear leaves nothing of a VM at either daemon.
func clear(vm string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i := range daemons {
		p, err := Dial(ctx, config(i, nil))
		if err != nil {
			continue
		}
		if d, err := p.lookup(ctx, vm); err == nil {
			_ = p.conn.Destroy(ctx, d)
			_ = p.forget(ctx, d)
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
	hypervisortest.Suite(t, func(t *testing.T) hypervisortest.Rig {
		s := vm(t)
		start(t, s)
		p := ports(t)
		now, err := p[0].Describe(t.Context(), s.VM)
		if err != nil {
			t.Fatal(err)
		}
		return hypervisortest.Rig{
			Source: p[0], Target: p[1], SourceName: p[0].conf.Name, TargetName: p[1].conf.Name, Shape: now,
			KillTarget: func() { daemons[1].KillVM(s.VM) },
			Reopen: func(t *testing.T) (hypervisor.Port, hypervisor.Port) {
				p[0].Close()
				p[1].Close()
				p = ports(t)
				return p[0], p[1]
			},
			Agent: true,
		}
	})
}
