package plantest

import (
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

// Wrong is a change that makes a move impossible, with the code of the reason for which, and for no other, plan.Make
// refuses it then.
type Wrong struct {
	Name, Code string
	Change     func(*plan.Input)
}

// Inputs are changes to Input, one thing at a time.
func Inputs() []Wrong {
	return []Wrong{
		{"CPU with fewer flags", "cpu-narrower", func(in *plan.Input) { in.Target.CPUs[0].Features = in.Target.CPUs[0].Features[:5] }},
		{"type with fewer flags", "cpu-narrower", func(in *plan.Input) { in.Type.CPU = "narrow" }},
		{"host's own CPU with fewer flags", "cpu-narrower", func(in *plan.Input) {
			in.Shape.CPU = model.CPU{Model: "host"}
			in.Source.CPUs = []model.CPU{{Model: "host", Features: []string{"avx512f", "fpu"}}}
			in.Target.CPUs = []model.CPU{{Model: "host", Features: []string{"fpu"}}}
		}},
		{"CPU the target lacks", "cpu-unknown", func(in *plan.Input) { in.Target.CPUs = in.Target.CPUs[1:] }},
		{"flags not known", "cpu-flags-unknown", func(in *plan.Input) { in.Target.CPUs[0].Features = nil }},
		{"flags required and absent", "type-features", func(in *plan.Input) { in.Type.Require.Features = []string{"avx512f"} }},
		{"more vCPUs than its ceiling", "vcpus-beyond-max", func(in *plan.Input) { in.Type.VCPUs = 5 }},
		{"ceiling beyond the target's", "max-vcpus", func(in *plan.Input) { in.Target.MaxVCPUs = 3 }},
		{"more vCPUs than plugged at all", "vcpus-contradict", func(in *plan.Input) { in.Shape.MaxVCPUs = 1 }},
		{"memory below what it was started with", "memory-below-boot", func(in *plan.Input) { in.Type.Memory = 128 * mib }},
		{"memory beyond its ceiling", "memory-beyond-max", func(in *plan.Input) { in.Type.Memory = 8 << 30 }},
		{"memory beyond its ceiling with what it was started with and all regions", "memory-beyond-max", func(in *plan.Input) {
			in.Shape.Memory.Max, in.Type.Memory = 1536*mib, 1664*mib
		}},
		{"no slot left", "memory-no-slot", func(in *plan.Input) {
			in.Shape.Memory.Slots, in.Type.Memory = 0, 2<<30
		}},
		{"more modules than slots", "memory-contradicts", func(in *plan.Input) {
			in.Shape.Memory.Slots, in.Shape.Memory.DIMMs = 0, []model.DIMM{{ID: "dimm0", Size: 128 * mib, Addr: 4 << 30}}
		}},
		{"module nobody knows the place of", "memory-without-address", func(in *plan.Input) {
			in.Shape.Memory.DIMMs = []model.DIMM{{ID: "dimm0", Size: 128 * mib}}
		}},
		{"board by an alias", "machine-alias", func(in *plan.Input) { in.Shape.Machine = "pc" }},
		{"board of a newer QEMU", "machine-unknown", func(in *plan.Input) { in.Shape.Machine = "pc-i440fx-9.2" }},
		{"board the type wants", "type-machine", func(in *plan.Input) { in.Type.Require.Machine = "pc-q35-7.2" }},
		{"other accelerator", "accel-other", func(in *plan.Input) { in.Target.Accels = in.Target.Accels[1:] }},
		{"accelerator the type wants", "type-accel", func(in *plan.Input) { in.Type.Require.Accel = "tcg" }},
		{"other hypervisor", "hypervisor-other", func(in *plan.Input) { in.Target.Hypervisor = "QEMU 7.2.22 (libvirt)" }},
		{"card the target lacks", "device-unknown", func(in *plan.Input) { in.Target.Devices = in.Target.Devices[1:] }},
		{"device the target lacks", "device-unknown", func(in *plan.Input) { in.Target.Devices = in.Target.Devices[:len(in.Target.Devices)-1] }},
		{"card the source lacks", "device-unknown-at-source", func(in *plan.Input) {
			in.Type.NIC, in.Source.Devices = "e1000", []string{"virtio-net-pci"}
		}},
		{"network the target lacks", "network-missing", func(in *plan.Input) { in.Shape.NICs[0].Network = "storage" }},
		{"two devices in a slot", "slot-taken", func(in *plan.Input) { in.Shape.Disks[0].Addr = "0x3" }},
		{"two devices of one name", "device-twice", func(in *plan.Input) { in.Shape.Disks[0].ID = "n0" }},
		{"card nobody knows the place of", "device-without-address", func(in *plan.Input) { in.Shape.NICs[0].Addr = "" }},
		{"passed-through hardware", "device-pinned", func(in *plan.Input) {
			in.Shape.Others = append(in.Shape.Others, model.Device{ID: "gpu", Args: "vfio-pci,id=gpu,addr=0x9"})
		}},
		{"card soldered to a q35 board", "device-not-pluggable", func(in *plan.Input) {
			in.Shape.Machine, in.Type.NIC = "pc-q35-7.2", "e1000"
			in.Target.Devices = append(in.Target.Devices, "pcie-root-port")
			in.Shape.Others = append(in.Shape.Others, model.Device{ID: "rp0", Args: "pcie-root-port,id=rp0,addr=0x9"})
		}},
		{"no root port free", "no-free-slot", func(in *plan.Input) {
			in.Shape.Machine, in.Type.NIC, in.Shape.NICs[0].Bus = "pc-q35-7.2", "e1000", "rp0"
		}},
		{"two devices in a slot of another spelling", "slot-taken", func(in *plan.Input) { in.Shape.NICs[0].Bus, in.Shape.Disks[0].Addr = "pci.0", "03.0" }},
		{"disk whose serial is cut off", "disk-serial-too-long", func(in *plan.Input) {
			in.Type.Disk, in.Shape.Disks[0].Serial = "scsi-hd", "production-database-01"
		}},
		{"disk without a serial", "disk-without-serial", func(in *plan.Input) { in.Type.Disk, in.Shape.Disks[0].Serial = "scsi-hd", "" }},
		{"disk that becomes what cannot be moved", "disk-model-unknown", func(in *plan.Input) { in.Type.Disk = "nvme" }},
		{"disk that cannot be moved", "device-pinned", func(in *plan.Input) { in.Shape.Disks[0].Model = "nvme" }},
		{"disk without the controller it needs", "no-scsi-controller", func(in *plan.Input) { in.Type.Disk, in.Shape.Others = "scsi-hd", in.Shape.Others[:1] }},
		{"disk behind a file's socket", "disk-unreachable", func(in *plan.Input) { in.Shape.Disks[0].Source.Volume.Server = "unix:/run/nbd" }},
		{"disk with metadata", "disk-not-raw", func(in *plan.Input) { in.Shape.Disks[0].Source = model.Source{Local: "/images/web.QCOW2"} }},
		{"disk of nowhere", "disk-source", func(in *plan.Input) { in.Shape.Disks[0].Source = model.Source{} }},
		{"disk of unknown size", "disk-size-unknown", func(in *plan.Input) { in.Shape.Disks[0].Size = 0 }},
		{"volume of another size", "disk-size", func(in *plan.Input) { in.Volumes = map[string]uint64{"web-root": 2 << 30} }},
		{"volume that is gone", "volume-missing", func(in *plan.Input) { in.Volumes = map[string]uint64{} }},
		{"name taken", "name-taken", func(in *plan.Input) { in.Residents = []plan.Resident{{VM: "web"}} }},
		{"UUID taken", "uuid-taken", func(in *plan.Input) {
			in.Residents = []plan.Resident{{VM: "other", UUID: strings.ToUpper(in.Shape.UUID)}}
		}},
		{"target without vCPUs", "target-full-vcpus", func(in *plan.Input) { in.Type.VCPUs, in.Target.FreeVCPUs = 4, 3 }},
		{"target without memory", "target-full-memory", func(in *plan.Input) { in.Target.FreeMemory = 512 * mib }},
		{"where it is already", "same-host", func(in *plan.Input) { in.Target.Name = in.Source.Name }},
		{"record of another release", "shape-version", func(in *plan.Input) { in.Shape.Version++ }},
		{"no agent for a change", "agent-absent", func(in *plan.Input) { in.Type.VCPUs, in.Guest = 1, nil }},
		{"capability missing", "capability-missing", func(in *plan.Input) { in.Type.NIC = "e1000e" }},
		{"old agent", "capability-missing", func(in *plan.Input) { in.Type.VCPUs, in.Guest.Can = 1, nil }},
		{"hook the guest does not have", "capability-missing", func(in *plan.Input) { in.Hooks.Before = []string{"quiesce"} }},
		{"agent that lies about vCPUs", "agent-contradicts", func(in *plan.Input) { in.Type.VCPUs, in.Guest.Present = 1, 8 }},
		{"agent that lies about cards", "agent-contradicts", func(in *plan.Input) { in.Type.NIC, in.Guest.NICs = "e1000", nil }},
		{"source without TLS", "tls-missing", func(in *plan.Input) { in.Source.TLS = false }},
		{"target without TLS", "tls-missing", func(in *plan.Input) { in.Target.TLS = false }},
		{"memory that TCG corrupts", "tcg-memory", func(in *plan.Input) { in.Shape.Accel, in.Shape.Memory.Boot = "tcg", 256*mib }},
		{"vCPU that TCG does not survive", "vcpu-unplug-tcg", func(in *plan.Input) { in.Shape.Accel, in.Type.VCPUs = "tcg", 1 }},
		{"CPU model that libvirt keeps", "cpu-model-fixed", func(in *plan.Input) {
			in.Source.Hypervisor, in.Target.Hypervisor, in.Type.CPU = "QEMU 7.2.22 (libvirt)", "QEMU 7.2.22 (libvirt)", "wide"
		}},
	}
}
