package plan_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/plan/plantest"
)

// drawInput is a VM of any size with any devices that a board can have, and a type that may or may not be possible.
func drawInput(t *rapid.T) plan.Input {
	in := plantest.Input()
	s := &in.Shape
	s.MaxVCPUs = rapid.IntRange(1, 8).Draw(t, "maxcpus")
	s.VCPUs = rapid.IntRange(1, s.MaxVCPUs).Draw(t, "vcpus")
	in.Guest.Present = s.VCPUs
	s.Memory = model.Memory{Boot: 262136 << 10, Max: 16 << 30, Slots: 4}
	address := 3
	next := func() string {
		if address++; address == 8 {
			address++ // the SCSI controller's
		}
		return fmt.Sprintf("0x%x", address-1)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "virtio-mem") {
		s.Memory.VirtioMem = append(s.Memory.VirtioMem, model.VirtioMem{
			ID: fmt.Sprint("vm", i), Max: 1 << 30, Requested: rapid.Uint64Range(0, 512).Draw(t, "requested") * 2 * mib, Addr: next(),
		})
	}
	for slot := range 4 {
		if rapid.Bool().Draw(t, "module") {
			s.Memory.DIMMs = append(s.Memory.DIMMs, model.DIMM{
				ID: fmt.Sprint("dimm", slot), Slot: slot, Size: rapid.Uint64Range(1, 8).Draw(t, "size") * plan.DIMMBlock, Addr: uint64(slot+1) << 33,
			})
		}
	}
	s.NICs, s.Disks, in.Guest.NICs = nil, nil, nil
	models := rapid.SampledFrom([]string{"virtio-net-pci", "e1000"})
	for i := range rapid.IntRange(0, 3).Draw(t, "cards") {
		n := model.NIC{ID: fmt.Sprint("n", i), Model: models.Draw(t, "model"), MAC: fmt.Sprintf("52:54:00:00:00:%02x", i), Network: "lan", Addr: next()}
		s.NICs = append(s.NICs, n)
		in.Guest.NICs = append(in.Guest.NICs, model.GuestNIC{MAC: n.MAC})
	}
	disks := rapid.SampledFrom([]string{"virtio-blk-pci", "scsi-hd"})
	for i := range rapid.IntRange(0, 2).Draw(t, "disks") {
		d := model.Disk{
			ID: fmt.Sprint("d", i), Model: disks.Draw(t, "model"), Serial: fmt.Sprint("s", i), Size: 1 << 30,
			Source: model.Source{Volume: &model.Volume{Name: fmt.Sprint("v", i), Server: "tcp:192.0.2.1:10809"}},
		}
		if d.Addr = next(); d.Model == "scsi-hd" {
			d.Bus, d.Addr = "scsi0.0", fmt.Sprint(i)
		}
		s.Disks = append(s.Disks, d)
	}
	in.Type = model.VMType{
		VCPUs: rapid.IntRange(0, 9).Draw(t, "type's vcpus"), Memory: strict.Size(rapid.Int64Range(0, 6<<30).Draw(t, "type's memory")),
		CPU:  rapid.SampledFrom([]string{"", "qemu64", "wide"}).Draw(t, "type's CPU"),
		NIC:  rapid.SampledFrom([]string{"", "virtio-net-pci", "e1000"}).Draw(t, "type's card"),
		Disk: rapid.SampledFrom([]string{"", "virtio-blk-pci", "scsi-hd"}).Draw(t, "type's disk"),
	}
	return in
}

// TestStepsLeadThereAndBack: whatever the VM and the type, the steps lead from Before over During to After, the inverses
// of any prefix back to Before, nothing grows before the move and nothing shrinks after it.
func TestStepsLeadThereAndBack(t *testing.T) {
	planned := 0
	rapid.Check(t, func(rt *rapid.T) {
		in := drawInput(rt)
		given, _ := json.Marshal(in)
		p, refusals := plan.Make(in)
		if after, _ := json.Marshal(in); string(after) != string(given) {
			rt.Fatal("Make has changed what it was given")
		}
		again, _ := plan.Make(in)
		if diff := cmp.Diff(p, again); diff != "" {
			rt.Fatal("a second time the plan is another one: " + diff)
		}
		if len(refusals) > 0 {
			return
		}
		planned++
		if err := p.Validate(); err != nil {
			rt.Fatal(err)
		}
		walk(rt, p)
		if want := in.Type.VCPUs; want != 0 && p.After.VCPUs != want {
			rt.Fatalf("ends with %d vCPUs, want %d", p.After.VCPUs, want)
		}
		for _, n := range p.After.NICs {
			if in.Type.NIC != "" && n.Model != in.Type.NIC {
				rt.Fatalf("card %s is still a %s", n.ID, n.Model)
			}
		}
		got, want := p.After.Memory.Total(), uint64(in.Type.Memory)
		if want != 0 && got+plan.DIMMBlock/plan.Slack < want {
			rt.Fatalf("ends with %s, want %s", plan.Size(got), plan.Size(want))
		}
	})
	if planned == 0 {
		t.Error("everything drawn was refused")
	}
}

func walk(t *rapid.T, p plan.Plan) {
	at := p.Before
	for i, s := range p.Steps {
		next, err := plan.Apply(at, s)
		if err != nil {
			t.Fatal(err)
		}
		shrinks := next.VCPUs < at.VCPUs || next.Memory.Total() < at.Memory.Total()
		grows := next.VCPUs > at.VCPUs || next.Memory.Total() > at.Memory.Total()
		if moved := i > p.Moving(); grows && !moved || shrinks && moved {
			t.Fatalf("step %d, %s, is on the wrong side of the move", i+1, s.Title())
		}
		at = next
		if diff := cmp.Diff(p.Before, undo(t, at, p.Steps[:i+1])); diff != "" {
			t.Fatalf("undoing %d steps: %s", i+1, diff)
		}
		if taken := addresses(at); len(taken) > 0 {
			t.Fatalf("after step %d two devices are at %v", i+1, taken)
		}
	}
}

func undo(t *rapid.T, at model.Shape, steps []plan.Step) model.Shape {
	for _, s := range slices.Backward(steps) {
		if diff := cmp.Diff(s, plan.Invert(plan.Invert(s))); diff != "" {
			t.Fatalf("the inverse of the inverse of %s: %s", s.Title(), diff)
		}
		before, err := plan.Apply(at, plan.Invert(s))
		if err != nil {
			t.Fatal(err)
		}
		at = before
	}
	return at
}

// addresses are those at which more than one device is.
func addresses(s model.Shape) (taken []string) {
	seen := map[string]bool{}
	for _, p := range plan.Places(s) {
		bus, addr := p.At()
		if addr != "" && seen[bus+addr] {
			taken = append(taken, addr)
		}
		seen[bus+addr] = true
	}
	return taken
}

// FuzzValidate: a plan comes back from a journal; whatever it says, it is refused, or it hangs together and can be shown.
func FuzzValidate(f *testing.F) {
	in := plantest.Input()
	in.Type = plantest.Retype()
	p, _ := plan.Make(in)
	text, _ := json.Marshal(p)
	f.Add(text)
	f.Add([]byte(`{"version":1,"steps":[{"kind":"move"},{"kind":"grow-memory","dimm":{"slot":-1}}]}`))
	f.Add([]byte(`{"version":1,"steps":[{"kind":"swap-nic"},{"kind":"unplug-vcpu"},{"kind":"shrink-memory"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p plan.Plan
		if json.Unmarshal(text, &p) != nil || p.Validate() != nil {
			return
		}
		_ = p.Text()
		at := p.After
		for _, s := range slices.Backward(p.Steps) {
			before, err := plan.Apply(at, plan.Invert(s))
			if err != nil {
				t.Fatalf("a valid plan cannot be undone: %v", err)
			}
			at = before
		}
	})
}
