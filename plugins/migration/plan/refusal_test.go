package plan_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/plan/plantest"
)

// TestRefused changes one thing at a time about a move that can be. Each change must be refused, for the reason named and
// no other, before a byte is sent.
func TestRefused(t *testing.T) {
	for _, c := range plantest.Inputs() {
		t.Run(c.Name, func(t *testing.T) {
			in := plantest.Input()
			c.Change(&in)
			p, refusals := plan.Make(in)
			var codes []string
			for _, r := range refusals {
				codes = append(codes, r.Code)
				if r.What == "" || r.Why == "" || r.Do == "" {
					t.Errorf("%s leaves the operator alone: %+v", r.Code, r)
				}
			}
			if !slices.Equal(slices.Compact(codes), []string{c.Code}) {
				t.Errorf("refused for %q, want %s", codes, c.Code)
			}
			if p.Steps != nil {
				t.Error("a refused move has steps")
			}
		})
	}
}

// TestAllowed are changes that look like the refused ones and are none.
func TestAllowed(t *testing.T) {
	for name, change := range map[string]func(*plan.Input){
		"CPU with more flags":         func(in *plan.Input) { in.Target.CPUs[0].Features = append(in.Target.CPUs[0].Features, "avx") },
		"type with more flags":        func(in *plan.Input) { in.Type.CPU = "wide" },
		"plain where that is allowed": func(in *plan.Input) { in.Source.TLS, in.Goal.AllowPlain = false, true },
		"TCG's memory by post-copy": func(in *plan.Input) {
			in.Shape.Accel, in.Shape.Memory.Boot, in.Goal.AllowPostCopy = "tcg", 256*mib, true
		},
		"TCG's memory, mended QEMU": func(in *plan.Input) {
			in.Shape.Accel, in.Shape.Memory.Boot = "tcg", 256*mib
			in.Source.Hypervisor, in.Target.Hypervisor = "QEMU 9.2.0", "QEMU 10.0.0"
		},
		"volume of the right size": func(in *plan.Input) { in.Volumes = map[string]uint64{"web-root": 1 << 30} },
		"UUID of nobody":           func(in *plan.Input) { in.Shape.UUID, in.Residents = "", []plan.Resident{{VM: "x"}} },
		"agent that sees less than asked for, where no step depends on it": func(in *plan.Input) { in.Guest.Present = 1 },
		"disk that can be moved once it is another one":                    func(in *plan.Input) { in.Shape.Disks[0].Model, in.Type.Disk = "nvme", "virtio-blk-pci" },
		"two SCSI disks of one controller": func(in *plan.Input) {
			d := in.Shape.Disks[0]
			d.ID, d.Model, d.Bus, d.Addr, d.Serial = "d1", "scsi-hd", "scsi0.0", "0:0", "data"
			in.Shape.Disks, in.Type.Disk = append(in.Shape.Disks, d), "scsi-hd"
		},
		"card behind a root port": func(in *plan.Input) {
			in.Shape.Machine, in.Type.NIC, in.Shape.NICs[0].Bus, in.Shape.NICs[0].Addr = "pc-q35-7.2", "e1000", "rp0", "0x0"
			in.Target.Devices = append(in.Target.Devices, "pcie-root-port")
			in.Shape.Others = []model.Device{{ID: "rp0", Args: "pcie-root-port,id=rp0,addr=0x9"}, {ID: "rp1", Args: "pcie-root-port,id=rp1,addr=0xa"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := plantest.Input()
			change(&in)
			p, refusals := plan.Make(in)
			if len(refusals) > 0 {
				t.Fatalf("refused: %v", refusals)
			}
			if err := p.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTCGMemoryGoesAtOnce: where pre-copy would corrupt, the plan must not leave it to the policy when to switch.
func TestTCGMemoryGoesAtOnce(t *testing.T) {
	in := plantest.Input()
	in.Shape.Accel, in.Shape.Memory.Boot, in.Goal.AllowPostCopy = "tcg", 256*mib, true
	p, _ := plan.Make(in)
	if i := p.Moving(); i < 0 || !p.Steps[i].AtOnce {
		t.Errorf("the move does not go at once: %+v", p.Steps)
	}
}

// TestCompare holds destinations that were started wrong against what crosses.
func TestCompare(t *testing.T) {
	for _, c := range plantest.Shapes() {
		t.Run(c.Name, func(t *testing.T) {
			crossing := plantest.Input().Shape
			destination := plantest.Input().Shape
			c.Change(&destination)
			found := plan.Compare(crossing, destination)
			if len(found) != 1 || found[0].Code != c.Code {
				t.Errorf("found %v, want %s", found, c.Code)
			}
			if plan.Reached(destination, crossing) {
				t.Error("and yet it is taken for the same")
			}
		})
	}
	same := plantest.Input().Shape
	same.CPU.Features = append(same.CPU.Features, "avx")
	if found := plan.Compare(plantest.Input().Shape, same); len(found) > 0 {
		t.Errorf("a wider CPU is refused: %v", found)
	}
}

// TestCodesAreInTheManual: every reason that programs may meet is listed for people.
func TestCodesAreInTheManual(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/reference/migration-refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("*.go")
	more, _ := filepath.Glob("../template/*.go")
	code := regexp.MustCompile(`(?:refuse\(|Code: )"([a-z-]+[a-z])"`)
	found := 0
	for _, name := range append(files, more...) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range code.FindAllSubmatch(text, -1) {
			if found++; !strings.Contains(string(manual), "`"+string(m[1])+"`") {
				t.Errorf("%s refuses for %s, which the manual does not have", name, m[1])
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d reasons were found", found)
	}
}
