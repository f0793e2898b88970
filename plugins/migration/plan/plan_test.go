package plan_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/plan/plantest"
)

const mib = 1 << 20

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// TestText keeps what an operator reads before he says yes, and with it the order of the steps.
func TestText(t *testing.T) {
	cases := map[string]func(*plan.Input){
		"plain": func(*plan.Input) {},
		"larger": func(in *plan.Input) {
			in.Type = plantest.Retype()
			in.Goal = model.Goal{MaxGap: strict.Duration(200e6), Deadline: strict.Duration(10e9), Bandwidth: 50 * mib, AllowPostCopy: true}
			in.Guest.Can = append(in.Guest.Can, model.Capability{Name: model.CanHook + "quiesce", State: model.Ready})
			in.Hooks = model.Hooks{Before: []string{"quiesce"}, After: []string{"quiesce"}}
		},
		"smaller": func(in *plan.Input) {
			in.Type = model.VMType{VCPUs: 1, Memory: 256 * mib}
			in.Shape.Memory.DIMMs = []model.DIMM{{ID: "dimm0", Size: 256 * mib, Slot: 0, Addr: 4 << 30}}
			in.Shape.Disks[0].Source = model.Source{Local: "/images/web.raw"}
		},
		"no-agent": func(in *plan.Input) { in.Guest = nil },
		"refused": func(in *plan.Input) {
			in.Type = model.VMType{VCPUs: 8, CPU: "narrow", NIC: "e1000e"}
			in.Target.Networks, in.Target.FreeMemory = nil, 512*mib
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			in := plantest.Input()
			change(&in)
			p, refusals := plan.Make(in)
			got := plan.RefusalText(in.Shape.VM, in.Source.Name, in.Target.Name, refusals)
			if len(refusals) == 0 {
				got = p.Text()
				if err := p.Validate(); err != nil {
					t.Error(err)
				}
			}
			file := filepath.Join("testdata", name+".txt")
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("want and got differ (-rewrite after reading it):\n%s", diff)
			}
		})
	}
}

// TestReachedLeavesAddressOpen: a module plugged by a plan has the address that the hypervisor gave it.
func TestReachedLeavesAddressOpen(t *testing.T) {
	in := plantest.Input()
	in.Type.Memory = 2 << 30
	p, refusals := plan.Make(in)
	if len(refusals) > 0 {
		t.Fatal(refusals)
	}
	now := plan.Clone(p.After)
	now.Memory.DIMMs[0].Addr = 4 << 30
	if !plan.Reached(now, p.After) || plan.Reached(p.During, p.After) {
		t.Error("reached is not told from not reached")
	}
}

// TestMemory: how much comes and goes, by what is plugged.
func TestMemory(t *testing.T) {
	boot := uint64(262136 << 10)
	for _, c := range []struct {
		name              string
		mem               model.Memory
		want              strict.Size
		during, after     uint64 // beyond boot
		warns, virtioFull bool
	}{
		{name: "grow by virtio-mem", mem: virtio(0), want: 512 * mib, after: 256 * mib},
		{name: "shrink by virtio-mem", mem: virtio(512 * mib), want: 256 * mib},
		{name: "grow past virtio-mem", mem: virtio(1 << 30), want: 1408 * mib, during: 1 << 30, after: 1<<30 + 128*mib},
		{name: "a whole block for a part of one", mem: virtio(0), want: 257 * mib, after: 2 * mib},
		{name: "grow by a module", mem: model.Memory{Max: 4 << 30, Slots: 2}, want: 300 * mib, after: 128 * mib},
		{name: "a module that fits goes", mem: modules(128, 256), want: 384 * mib, during: 128 * mib, after: 128 * mib},
		{name: "one from the middle goes", mem: modules(256, 128, 256), want: 768 * mib, during: 512 * mib, after: 512 * mib},
		{name: "a module that is too large stays", mem: modules(256), want: 384 * mib, during: 256 * mib, after: 256 * mib, warns: true},
		{name: "nothing asked", mem: virtio(64 * mib), during: 64 * mib, after: 64 * mib},
		{name: "as it is", mem: virtio(64 * mib), want: 320 * mib, during: 64 * mib, after: 64 * mib},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := plantest.Input()
			in.Shape.Memory, in.Type.Memory = c.mem, c.want
			in.Shape.Memory.Boot = boot
			p, refusals := plan.Make(in)
			if len(refusals) > 0 {
				t.Fatal(refusals)
			}
			if err := p.Validate(); err != nil {
				t.Error(err)
			}
			during, after := p.During.Memory.Total()-boot, p.After.Memory.Total()-boot
			if during != c.during || after != c.after {
				t.Errorf("crosses with %s, ends with %s; want %s and %s", plan.Size(during), plan.Size(after), plan.Size(c.during), plan.Size(c.after))
			}
			if warned := strings.Contains(strings.Join(p.Warnings, "\n"), "memory stays"); warned != c.warns {
				t.Errorf("warned: %v", p.Warnings)
			}
		})
	}
}

func virtio(requested uint64) model.Memory {
	return model.Memory{Max: 4 << 30, Slots: 4, VirtioMem: []model.VirtioMem{{ID: "vm0", Max: 1 << 30, Requested: requested, Addr: "0x6"}}}
}

func modules(sizes ...uint64) model.Memory {
	m := model.Memory{Max: 4 << 30, Slots: 4}
	for i, s := range sizes {
		m.DIMMs = append(m.DIMMs, model.DIMM{ID: "dimm" + string(rune('0'+i)), Slot: i, Size: s * mib, Addr: uint64(i+4) << 30})
	}
	return m
}

// TestPlanSurvivesJSON: a journal keeps plans as JSON, and what it gives back is the plan that was written.
func TestPlanSurvivesJSON(t *testing.T) {
	in := plantest.Input()
	in.Type, in.Goal = plantest.Retype(), model.Goal{MaxGap: 200e6}
	p, refusals := plan.Make(in)
	if len(refusals) > 0 {
		t.Fatal(refusals)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back plan.Plan
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, back); diff != "" {
		t.Error(diff)
	}
}

// TestValidate: what was changed since it was written is not carried out.
func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*plan.Plan){
		"version":             func(p *plan.Plan) { p.Version++ },
		"what crosses":        func(p *plan.Plan) { p.During.VCPUs++ },
		"what comes of it":    func(p *plan.Plan) { p.After.NICs = nil },
		"what it starts from": func(p *plan.Plan) { p.Before.NICs = nil },
		"no move":             func(p *plan.Plan) { p.Steps = slices.Delete(p.Steps, p.Moving(), p.Moving()+1) },
		"two moves":           func(p *plan.Plan) { p.Steps = append(p.Steps, plan.Step{Kind: plan.Move}) },
		"a step unknown here": func(p *plan.Plan) { p.Steps = append(p.Steps, plan.Step{Kind: "defragment"}) },
		"a step without what": func(p *plan.Plan) { p.Steps = append(p.Steps, plan.Step{Kind: plan.PlugVCPU}) },
		"a step too many":     func(p *plan.Plan) { p.Steps = append(p.Steps, make([]plan.Step, plan.MaxSteps)...) },
	} {
		t.Run(name, func(t *testing.T) {
			in := plantest.Input()
			in.Type = plantest.Retype()
			p, _ := plan.Make(in)
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			if change(&p); p.Validate() == nil {
				t.Error("it is taken for the plan that was made")
			}
		})
	}
}
