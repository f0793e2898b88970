package qmp_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/vmhosttest"
)

// small is a VM with nothing to boot: its firmware runs, which is enough to be moved.
func small() model.Shape {
	return model.Shape{
		Version: 1, VM: "vm1", UUID: "6d1f2c6e-0000-4000-8000-000000000001", Machine: "pc-i440fx-7.2", Accel: "tcg",
		CPU: model.CPU{Model: "qemu64"}, VCPUs: 1, MaxVCPUs: 2,
		// No multiple of 256 KiB: see package qmp.
		Memory: model.Memory{Boot: 40952 << 10, Max: 1 << 30, Slots: 2},
		NICs:   []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "lan"}},
		Others: []model.Device{
			{ID: "vs0", Args: "virtio-serial-pci,id=vs0"},
			{ID: "agent0", Args: "virtserialport,id=agent0,bus=vs0.0,nr=1,chardev=agent,name=org.ratchet.agent.0"},
		},
	}
}

func hosts(t *testing.T) *vmhosttest.Hosts {
	t.Helper()
	dir, err := os.MkdirTemp("", "hv") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := vmhosttest.Options{Networks: map[string]args.Network{"lan": args.User()}}
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
		o.Transcript = func(host, vm string, sent bool, line []byte) {
			t.Logf("%s %s %v %.400s", host, vm, sent, line)
		}
	}
	h, err := vmhosttest.New(t.Context(), dir, o, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func open(t *testing.T, h *vmhosttest.Hosts) (a, b hypervisor.Port) {
	t.Helper()
	a, err := h.Port(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if b, err = h.Port(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// fresh starts a VM on a host of which nothing is left of the case before, and ends the manager's connections.
func fresh(t *testing.T, h *vmhosttest.Hosts) model.Shape {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, name := range []string{"a", "b"} {
		vms, err := h.Host(name).List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vms {
			if err := h.Host(name).End(ctx, v.Name, v.Move); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.Crash()
	if err := h.Host("a").Start(ctx, small(), vmhost.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	shape, err := h.Host("a").Shape(ctx, "vm1")
	if err != nil {
		t.Fatal(err)
	}
	return shape
}

// TestPort runs the conformance suite over two hosts with real QEMUs and TLS between them.
func TestPort(t *testing.T) {
	t.Parallel()
	h := hosts(t)
	hypervisortest.Suite(t, func(t *testing.T) hypervisortest.Rig {
		shape := fresh(t, h)
		r := hypervisortest.Rig{SourceName: "a", TargetName: "b", Shape: shape, PostCopy: true, Agent: true, Fences: true, Epoch: h.Epoch()}
		r.Source, r.Target = open(t, h)
		r.KillTarget = func() {
			if err := h.Host("b").Kill("vm1"); err != nil {
				t.Error(err)
			}
		}
		r.Reopen = func(t *testing.T) (hypervisor.Port, hypervisor.Port) { h.Crash(); return open(t, h) }
		return r
	})
}
