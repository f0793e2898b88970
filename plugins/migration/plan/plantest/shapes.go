package plantest

import "github.com/ratchetos/ratchet/plugins/migration/model"

// WrongShape is a destination that was started wrong, with the code for which plan.Compare refuses it.
type WrongShape struct {
	Name, Code string
	Change     func(*model.Shape)
}

// Shapes are changes to the shape of Input, one thing at a time. The first six are what QEMU accepts, or notices when the
// source has let go.
func Shapes() []WrongShape {
	return []WrongShape{
		{"CPU flags", "differs-cpu-flags", func(s *model.Shape) { s.CPU.Features = s.CPU.Features[1:] }},
		{"CPU model", "differs-cpu-model", func(s *model.Shape) { s.CPU.Model = "narrow" }},
		{"maxcpus", "differs-max-vcpus", func(s *model.Shape) { s.MaxVCPUs = 2 }},
		{"slots", "differs-slots", func(s *model.Shape) { s.Memory.Slots = 2 }},
		{"maxmem", "differs-max-memory", func(s *model.Shape) { s.Memory.Max = 2 << 30 }},
		{"vCPUs", "differs-vcpus", func(s *model.Shape) { s.VCPUs = 1 }},
		{"memory", "differs-memory", func(s *model.Shape) { s.Memory.Boot = 256 * mib }},
		{"board version", "differs-machine", func(s *model.Shape) { s.Machine = "pc-i440fx-6.2" }},
		{"board", "differs-machine", func(s *model.Shape) { s.Machine = "pc-q35-7.2" }},
		{"accelerator", "differs-accel", func(s *model.Shape) { s.Accel = "tcg" }},
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
	}
}
