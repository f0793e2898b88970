package plan

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// TestRefused changes one thing at a time about a move that can be. Each change must be refused, for the reason named and
// no other, before a byte is sent.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, code string
		change     func(*Input)
	}{
		{"CPU with fewer flags", "cpu-narrower", func(in *Input) { in.Target.CPUs[0].Features = in.Target.CPUs[0].Features[:5] }},
		{"type with fewer flags", "cpu-narrower", func(in *Input) { in.Type.CPU = "narrow" }},
		{"host's own CPU with fewer flags", "cpu-narrower", func(in *Input) {
			in.Shape.CPU = model.CPU{Model: "host"}
			in.Source.CPUs = []model.CPU{{Model: "host", Features: []string{"avx512f", "fpu"}}}
			in.Target.CPUs = []model.CPU{{Model: "host", Features: []string{"fpu"}}}
		}},
		{"CPU the target lacks", "cpu-unknown", func(in *Input) { in.Target.CPUs = in.Target.CPUs[1:] }},
		{"flags not known", "cpu-flags-unknown", func(in *Input) { in.Target.CPUs[0].Features = nil }},
		{"flags required and absent", "type-features", func(in *Input) { in.Type.Require.Features = []string{"avx512f"} }},
		{"more vCPUs than its ceiling", "vcpus-beyond-max", func(in *Input) { in.Type.VCPUs = 5 }},
		{"ceiling beyond the target's", "max-vcpus", func(in *Input) { in.Target.MaxVCPUs = 3 }},
		{"more vCPUs than plugged at all", "vcpus-contradict", func(in *Input) { in.Shape.MaxVCPUs = 1 }},
		{"memory below what it was started with", "memory-below-boot", func(in *Input) { in.Type.Memory = 128 * mib }},
		{"memory beyond its ceiling", "memory-beyond-max", func(in *Input) { in.Type.Memory = 8 << 30 }},
		{"memory beyond its ceiling with what it was started with and all regions", "memory-beyond-max", func(in *Input) {
			in.Shape.Memory.Max, in.Type.Memory = 1536*mib, 1664*mib
		}},
		{"no slot left", "memory-no-slot", func(in *Input) {
			in.Shape.Memory.Slots, in.Type.Memory = 0, 2<<30
		}},
		{"more modules than slots", "memory-contradicts", func(in *Input) {
			in.Shape.Memory.Slots, in.Shape.Memory.DIMMs = 0, []model.DIMM{{ID: "dimm0", Size: 128 * mib, Addr: 4 << 30}}
		}},
		{"module nobody knows the place of", "memory-without-address", func(in *Input) {
			in.Shape.Memory.DIMMs = []model.DIMM{{ID: "dimm0", Size: 128 * mib}}
		}},
		{"board by an alias", "machine-alias", func(in *Input) { in.Shape.Machine = "pc" }},
		{"board of a newer QEMU", "machine-unknown", func(in *Input) { in.Shape.Machine = "pc-i440fx-9.2" }},
		{"board the type wants", "type-machine", func(in *Input) { in.Type.Require.Machine = "pc-q35-7.2" }},
		{"other accelerator", "accel-other", func(in *Input) { in.Target.Accels = []string{"kvm"} }},
		{"accelerator the type wants", "type-accel", func(in *Input) { in.Type.Require.Accel = "kvm" }},
		{"other hypervisor", "hypervisor-other", func(in *Input) { in.Target.Hypervisor = "QEMU 7.2.22 (libvirt)" }},
		{"card the target lacks", "device-unknown", func(in *Input) { in.Target.Devices = in.Target.Devices[1:] }},
		{"device the target lacks", "device-unknown", func(in *Input) { in.Target.Devices = in.Target.Devices[:len(in.Target.Devices)-1] }},
		{"card the source lacks", "device-unknown-at-source", func(in *Input) {
			in.Type.NIC, in.Source.Devices = "e1000", []string{"virtio-net-pci"}
		}},
		{"network the target lacks", "network-missing", func(in *Input) { in.Shape.NICs[0].Network = "storage" }},
		{"two devices in a slot", "slot-taken", func(in *Input) { in.Shape.Disks[0].Addr = "0x3" }},
		{"two devices of one name", "device-twice", func(in *Input) { in.Shape.Disks[0].ID = "n0" }},
		{"card nobody knows the place of", "device-without-address", func(in *Input) { in.Shape.NICs[0].Addr = "" }},
		{"passed-through hardware", "device-pinned", func(in *Input) {
			in.Shape.Others = append(in.Shape.Others, model.Device{ID: "gpu", Args: "vfio-pci,id=gpu,addr=0x9"})
		}},
		{"card soldered to a q35 board", "device-not-pluggable", func(in *Input) {
			in.Shape.Machine, in.Type.NIC = "pc-q35-7.2", "e1000"
			in.Target.Devices = append(in.Target.Devices, "pcie-root-port")
			in.Shape.Others = append(in.Shape.Others, model.Device{ID: "rp0", Args: "pcie-root-port,id=rp0,addr=0x9"})
		}},
		{"no root port free", "no-free-slot", func(in *Input) {
			in.Shape.Machine, in.Type.NIC, in.Shape.NICs[0].Bus = "pc-q35-7.2", "e1000", "rp0"
		}},
		{"two devices in a slot of another spelling", "slot-taken", func(in *Input) { in.Shape.NICs[0].Bus, in.Shape.Disks[0].Addr = "pci.0", "03.0" }},
		{"disk without a serial", "disk-without-serial", func(in *Input) { in.Type.Disk, in.Shape.Disks[0].Serial = "scsi-hd", "" }},
		{"disk that becomes what cannot be moved", "disk-model-unknown", func(in *Input) { in.Type.Disk = "nvme" }},
		{"disk that cannot be moved", "device-pinned", func(in *Input) { in.Shape.Disks[0].Model = "nvme" }},
		{"disk without the controller it needs", "no-scsi-controller", func(in *Input) { in.Type.Disk, in.Shape.Others = "scsi-hd", in.Shape.Others[:1] }},
		{"disk behind a file's socket", "disk-unreachable", func(in *Input) { in.Shape.Disks[0].Source.Volume.Server = "unix:/run/nbd" }},
		{"disk with metadata", "disk-not-raw", func(in *Input) { in.Shape.Disks[0].Source = model.Source{Local: "/images/web.QCOW2"} }},
		{"disk of nowhere", "disk-source", func(in *Input) { in.Shape.Disks[0].Source = model.Source{} }},
		{"disk of unknown size", "disk-size-unknown", func(in *Input) { in.Shape.Disks[0].Size = 0 }},
		{"volume of another size", "disk-size", func(in *Input) { in.Volumes = map[string]uint64{"web-root": 2 << 30} }},
		{"volume that is gone", "volume-missing", func(in *Input) { in.Volumes = map[string]uint64{} }},
		{"name taken", "name-taken", func(in *Input) { in.Residents = []Resident{{VM: "web"}} }},
		{"UUID taken", "uuid-taken", func(in *Input) { in.Residents = []Resident{{"other", strings.ToUpper(in.Shape.UUID)}} }},
		{"target without vCPUs", "target-full-vcpus", func(in *Input) { in.Type.VCPUs, in.Target.FreeVCPUs = 4, 3 }},
		{"target without memory", "target-full-memory", func(in *Input) { in.Target.FreeMemory = 512 * mib }},
		{"where it is already", "same-host", func(in *Input) { in.Target.Name = in.Source.Name }},
		{"record of another release", "shape-version", func(in *Input) { in.Shape.Version++ }},
		{"no agent for a change", "agent-absent", func(in *Input) { in.Type.VCPUs, in.Guest = 1, nil }},
		{"capability missing", "capability-missing", func(in *Input) { in.Type.NIC = "e1000e" }},
		{"old agent", "capability-missing", func(in *Input) { in.Type.VCPUs, in.Guest.Can = 1, nil }},
		{"hook the guest does not have", "capability-missing", func(in *Input) { in.Hooks.Before = []string{"quiesce"} }},
		{"agent that lies about vCPUs", "agent-contradicts", func(in *Input) { in.Type.VCPUs, in.Guest.Present = 1, 8 }},
		{"agent that lies about cards", "agent-contradicts", func(in *Input) { in.Type.NIC, in.Guest.NICs = "e1000", nil }},
		{"source without TLS", "tls-missing", func(in *Input) { in.Source.TLS = false }},
		{"target without TLS", "tls-missing", func(in *Input) { in.Target.TLS = false }},
		{"memory that TCG corrupts", "tcg-memory", func(in *Input) { in.Shape.Memory.Boot = 256 * mib }},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input()
			c.change(&in)
			p, refusals := Make(in)
			var codes []string
			for _, r := range refusals {
				codes = append(codes, r.Code)
				if r.What == "" || r.Why == "" || r.Do == "" {
					t.Errorf("%s leaves the operator alone: %+v", r.Code, r)
				}
			}
			if !slices.Equal(slices.Compact(codes), []string{c.code}) {
				t.Errorf("refused for %q, want %s", codes, c.code)
			}
			if p.Steps != nil {
				t.Error("a refused move has steps")
			}
		})
	}
}

// TestAllowed are changes that look like the refused ones and are none.
func TestAllowed(t *testing.T) {
	for name, change := range map[string]func(*Input){
		"CPU with more flags":         func(in *Input) { in.Target.CPUs[0].Features = append(in.Target.CPUs[0].Features, "avx") },
		"type with more flags":        func(in *Input) { in.Type.CPU = "wide" },
		"plain where that is allowed": func(in *Input) { in.Source.TLS, in.Goal.AllowPlain = false, true },
		"TCG's memory by post-copy":   func(in *Input) { in.Shape.Memory.Boot, in.Goal.AllowPostCopy = 256*mib, true },
		"TCG's memory, mended QEMU": func(in *Input) {
			in.Shape.Memory.Boot, in.Source.Hypervisor, in.Target.Hypervisor = 256*mib, "QEMU 9.2.0", "QEMU 10.0.0"
		},
		"volume of the right size": func(in *Input) { in.Volumes = map[string]uint64{"web-root": 1 << 30} },
		"UUID of nobody":           func(in *Input) { in.Shape.UUID, in.Residents = "", []Resident{{VM: "x"}} },
		"agent that sees less than asked for, where no step depends on it": func(in *Input) { in.Guest.Present = 1 },
		"disk that can be moved once it is another one":                    func(in *Input) { in.Shape.Disks[0].Model, in.Type.Disk = "nvme", "virtio-blk-pci" },
		"two SCSI disks of one controller": func(in *Input) {
			d := in.Shape.Disks[0]
			d.ID, d.Model, d.Bus, d.Addr, d.Serial = "d1", "scsi-hd", "scsi0.0", "0:0", "data"
			in.Shape.Disks, in.Type.Disk = append(in.Shape.Disks, d), "scsi-hd"
		},
		"card behind a root port": func(in *Input) {
			in.Shape.Machine, in.Type.NIC, in.Shape.NICs[0].Bus, in.Shape.NICs[0].Addr = "pc-q35-7.2", "e1000", "rp0", "0x0"
			in.Target.Devices = append(in.Target.Devices, "pcie-root-port")
			in.Shape.Others = []model.Device{{ID: "rp0", Args: "pcie-root-port,id=rp0,addr=0x9"}, {ID: "rp1", Args: "pcie-root-port,id=rp1,addr=0xa"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			change(&in)
			p, refusals := Make(in)
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
	in := input()
	in.Shape.Memory.Boot, in.Goal.AllowPostCopy = 256*mib, true
	p, _ := Make(in)
	if i := p.Moving(); i < 0 || !p.Steps[i].AtOnce {
		t.Errorf("the move does not go at once: %+v", p.Steps)
	}
}

// TestCompare holds destinations that were started wrong against what crosses. The first six are what QEMU accepts, or
// notices when the source has let go.
func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name, code string
		change     func(*model.Shape)
	}{
		{"CPU flags", "differs-cpu-flags", func(s *model.Shape) { s.CPU.Features = s.CPU.Features[1:] }},
		{"CPU model", "differs-cpu-model", func(s *model.Shape) { s.CPU.Model = "narrow" }},
		{"maxcpus", "differs-max-vcpus", func(s *model.Shape) { s.MaxVCPUs = 2 }},
		{"slots", "differs-slots", func(s *model.Shape) { s.Memory.Slots = 2 }},
		{"maxmem", "differs-max-memory", func(s *model.Shape) { s.Memory.Max = 2 << 30 }},
		{"vCPUs", "differs-vcpus", func(s *model.Shape) { s.VCPUs = 1 }},
		{"memory", "differs-memory", func(s *model.Shape) { s.Memory.Boot = 256 * mib }},
		{"board version", "differs-machine", func(s *model.Shape) { s.Machine = "pc-i440fx-6.2" }},
		{"board", "differs-machine", func(s *model.Shape) { s.Machine = "pc-q35-7.2" }},
		{"accelerator", "differs-accel", func(s *model.Shape) { s.Accel = "kvm" }},
		{"card's model", "differs-device", func(s *model.Shape) { s.NICs[0].Model = "e1000" }},
		{"card's slot", "differs-device", func(s *model.Shape) { s.NICs[0].Addr = "0x5" }},
		{"card's MAC", "differs-device", func(s *model.Shape) { s.NICs[0].MAC = "52:54:00:00:00:02" }},
		{"card gone", "differs-missing", func(s *model.Shape) { s.NICs = nil }},
		{"another card", "differs-extra", func(s *model.Shape) { s.NICs = append(s.NICs, model.NIC{ID: "n1"}) }},
		{"disk's model", "differs-device", func(s *model.Shape) { s.Disks[0].Model = "scsi-hd" }},
		{"disk's size", "differs-device", func(s *model.Shape) { s.Disks[0].Size++ }},
		{"disk's volume", "differs-device", func(s *model.Shape) { s.Disks[0].Source.Volume = &model.Volume{Name: "other"} }},
		{"virtio-mem's size", "differs-device", func(s *model.Shape) { s.Memory.VirtioMem[0].Requested = 0 }},
		{"module", "differs-extra", func(s *model.Shape) { s.Memory.DIMMs = []model.DIMM{{ID: "dimm0", Size: 128 * mib}} }},
		{"agent's channel", "differs-device", func(s *model.Shape) { s.Others[0].Args = "virtio-serial-pci,id=vs0,bus=pci.0,addr=0x8" }},
		{"UUID", "differs-uuid", func(s *model.Shape) { s.UUID = "" }},
		{"VM", "differs-vm", func(s *model.Shape) { s.VM = "db" }},
		{"firmware", "differs-boot", func(s *model.Shape) { s.Boot.Firmware = "/ovmf.fd" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			crossing := input().Shape
			destination := clone(crossing)
			c.change(&destination)
			found := Compare(crossing, destination)
			if len(found) != 1 || found[0].Code != c.code {
				t.Errorf("found %v, want %s", found, c.code)
			}
			if Reached(destination, crossing) {
				t.Error("and yet it is taken for the same")
			}
		})
	}
	same := clone(input().Shape)
	same.CPU.Features = append(same.CPU.Features, "avx")
	if found := Compare(input().Shape, same); len(found) > 0 {
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
