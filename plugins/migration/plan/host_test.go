package plan_test

import (
	"os"
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/vmhosttest"
)

// TestRealHosts plans moves between two real hosts by what they report: enough for a plan, and enough to refuse what their
// QEMUs would take without a word.
func TestRealHosts(t *testing.T) {
	dir, err := os.MkdirTemp("", "plan") //nolint:usetesting // sockets need short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h, err := vmhosttest.New(t.Context(), dir, vmhosttest.Options{Networks: map[string]args.Network{"lan": args.User()}}, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := h.Host("a").Start(t.Context(), model.Shape{
		Version: model.ShapeVersion, VM: "vm", Machine: "pc-i440fx-7.2", Accel: "tcg", CPU: model.CPU{Model: "Haswell-noTSX"}, VCPUs: 1, MaxVCPUs: 2,
		Memory: model.Memory{Boot: 16376 << 10}, // see package plan
		NICs:   []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "lan"}},
		Others: []model.Device{{ID: "vs0", Args: "virtio-serial-pci,id=vs0"}},
	}, vmhost.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	in := plan.Input{ID: "m", Source: capabilities(t, h, "a"), Target: capabilities(t, h, "b")}
	port, err := h.Port(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if in.Shape, err = port.Describe(t.Context(), "vm"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, code string
		change     func(*plan.Input)
	}{
		{"as it is", "", func(*plan.Input) {}},
		{"a wider CPU", "", func(in *plan.Input) { in.Type.CPU = "max" }},
		{"an older CPU", "cpu-narrower", func(in *plan.Input) { in.Type.CPU = "Nehalem" }},
		{"a CPU nobody has", "cpu-unknown", func(in *plan.Input) { in.Type.CPU = "Nehelem" }},
		{"a board of the next QEMU", "machine-unknown", func(in *plan.Input) { in.Shape.Machine = "pc-i440fx-9.9" }},
		{"another accelerator", "accel-other", func(in *plan.Input) { in.Shape.Accel = "kvm" }},
		{"a network that is elsewhere", "network-missing", func(in *plan.Input) { in.Shape.NICs[0].Network = "storage" }},
		{"memory that TCG corrupts", "tcg-memory", func(in *plan.Input) { in.Shape.Memory.Boot = 16 << 20 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := in
			in.Shape = plan.Clone(in.Shape)
			c.change(&in)
			p, refusals := plan.Make(in)
			switch {
			case c.code != "" && !slices.ContainsFunc(refusals, func(r plan.Refusal) bool { return r.Code == c.code }):
				t.Errorf("refused for %v, want %s", refusals, c.code)
			case c.code == "" && len(refusals) > 0:
				t.Errorf("refused: %v", refusals)
			case c.code == "" && !plan.Reached(in.Shape, p.Before):
				t.Error("the plan does not start from what is there")
			}
		})
	}
}

func capabilities(t *testing.T, h *vmhosttest.Hosts, name string) model.Host {
	t.Helper()
	port, err := h.Port(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	host, err := port.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return host
}
