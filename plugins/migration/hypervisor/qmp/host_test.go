package qmp

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
)

func dialHost(t *testing.T, socket string) *Host {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	h, err := DialHost(ctx, "unix", socket, "unnamed", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func list(t *testing.T, h *Host) hypervisor.VM {
	t.Helper()
	vms, err := h.List(t.Context())
	if err != nil || len(vms) != 1 {
		t.Fatalf("list: %d VMs, %v", len(vms), err)
	}
	return vms[0]
}

// event waits for one event by name.
func event(t *testing.T, h *Host, name string) hypervisor.Event {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-h.Events():
			if !ok {
				t.Fatalf("connection ended before %s: %v", name, h.Err())
			}
			if e.Name == name {
				return e
			}
		case <-timeout:
			t.Fatalf("no %s", name)
		}
	}
}

func TestRealQEMU(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "qmp")
	hypervisortest.StartQEMU(t, socket, "-name", "web1", "-uuid", "00112233-4455-6677-8899-aabbccddeeff")
	h := dialHost(t, socket)

	vm := list(t, h)
	if vm.Hypervisor[:5] != "QEMU " {
		t.Errorf("hypervisor %q", vm.Hypervisor)
	}
	vm.Hypervisor = ""
	want := hypervisor.VM{
		Name: "web1", UUID: "00112233-4455-6677-8899-aabbccddeeff", State: hypervisor.Starting, Detail: "prelaunch",
		VCPUs: 1, MaxVCPUs: 2, Memory: 32 << 20,
		Devices: []hypervisor.Device{
			{Model: "virtio-rng-pci", Kind: hypervisor.Other},
			{ID: "d0", Model: "virtio-blk-pci", Kind: hypervisor.Disk, Backing: "null-co://"},
			{ID: "n0", Model: "virtio-net-pci", Kind: hypervisor.NIC},
		},
	}
	if d := cmp.Diff(want, vm); d != "" {
		t.Errorf("VM differs (-want +got):\n%s", d)
	}

	for _, step := range []struct {
		command, event string
		state          hypervisor.State
	}{{"cont", "RESUME", hypervisor.Running}, {"stop", "STOP", hypervisor.Paused}} {
		if err := h.client.Do(t.Context(), step.command, nil, nil); err != nil {
			t.Fatal(err)
		}
		if e := event(t, h, step.event); e.VM != "web1" || time.Since(e.Time).Abs() > time.Minute {
			t.Errorf("event %+v", e)
		}
		if vm := list(t, h); vm.State != step.state {
			t.Errorf("after %s: %s (%s), want %s", step.command, vm.State, vm.Detail, step.state)
		}
	}

	var refused *Error
	if err := h.client.Do(t.Context(), "no-such-command", nil, nil); !errors.As(err, &refused) || refused.Class != CommandNotFound {
		t.Errorf("unknown command: %v", err)
	}

	if err := h.client.Do(t.Context(), "quit", nil, nil); err != nil {
		t.Fatal(err)
	}
	// SHUTDOWN mostly comes before the end. But QEMU may exit with a question of ours unread, and then the kernel throws
	// away what it had sent (unix(7)): the end itself is what can be relied on.
	for range h.Events() {
	}
	if h.Err() == nil {
		t.Error("connection ended without a reason")
	}
	if _, err := h.List(t.Context()); err == nil {
		t.Error("list after the end succeeded")
	}
}

func TestSecondClientOfAMonitor(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "qmp")
	hypervisortest.StartQEMU(t, socket)
	first := dialHost(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := DialHost(ctx, "unix", socket, "x", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("second client: %v, want ErrBusy", err)
	}
	if vm := list(t, first); vm.Name != "unnamed" || vm.UUID != "" {
		t.Errorf("VM without a name and UUID: %+v", vm)
	}
}
