package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// pinned tells devices that QEMU does not move, because a part of their state is hardware, a process or a file of the
// host, or, as with nvme, because it has no code for it.
func pinned(device string) bool {
	for _, prefix := range []string{"vfio-", "usb-host", "vhost-user-", "vhost-vsock", "vhost-scsi", "virtio-9p", "ivshmem", "guest-loader", "loader"} {
		if strings.HasPrefix(device, prefix) {
			return true
		}
	}
	return device == "nvme"
}

// checkAddresses finds devices of which the host does not say where they are, or where two of them would be.
func (p *planner) checkAddresses(s model.Shape) {
	first := map[place]string{}
	ids := map[string]bool{}
	for _, d := range places(s) {
		if d.id != "" && ids[d.id] {
			p.refuse("device-twice", fmt.Sprintf("two devices are called %s", d.id), "one of them could not be named", "restart the agent of its host, and report it if it stays")
		}
		ids[d.id] = true
		if d.addr == "" {
			continue
		}
		key := place{bus: d.bus, addr: d.addr}
		if other, taken := first[key]; taken {
			p.refuse("slot-taken", fmt.Sprintf("%s and %s are both recorded at %s of %s", other, d.id, d.addr, d.bus),
				"the destination could not be started", "restart the agent of its host, and report it if it stays")
		}
		first[key] = d.id
	}
	for _, n := range s.NICs {
		p.placed(n.ID, n.Addr)
	}
	for _, v := range s.Memory.VirtioMem {
		p.placed(v.ID, v.Addr)
	}
	for _, d := range s.Disks {
		if !onController(s, d.ID) { // there, no number is the first one
			p.placed(d.ID, d.Addr)
		}
	}
}

func (p *planner) placed(id, addr string) {
	if addr == "" {
		p.refuse("device-without-address", fmt.Sprintf("the host does not say in which PCI slot %s is", id),
			"the destination might put it elsewhere, which the guest does not survive", "update the agent of the host")
	}
}

// checkDevices holds every device that crosses against what the target can plug and connect.
func (p *planner) checkDevices(s model.Shape) {
	t := p.in.Target
	seen := map[string]bool{}
	offered := func(device, id string) {
		if seen[device] {
			return
		}
		seen[device] = true
		if pinned(device) {
			p.refuse("device-pinned", fmt.Sprintf("device %s is a %s", id, device),
				"QEMU does not move such devices: they are tied to their host", "unplug it first, or let the type change the model of disks")
			return
		}
		if slices.Contains(t.Devices, device) {
			return
		}
		p.refuse("device-unknown", fmt.Sprintf("%s has no %s, which %s is", t.Name, device, id),
			"the destination could not be started", "choose another target, or another model by the type")
	}
	for _, n := range s.NICs {
		offered(n.Model, n.ID)
		if !slices.Contains(t.Networks, n.Network) {
			p.refuse("network-missing", fmt.Sprintf("%s is not connected to the network %s of card %s", t.Name, n.Network, n.ID),
				"the guest would run and reach nobody", "configure the network on the host, or choose another target")
		}
	}
	for _, d := range s.Disks {
		offered(d.Model, d.ID)
	}
	for range s.Memory.DIMMs {
		offered("pc-dimm", "a memory module")
	}
	for _, v := range s.Memory.VirtioMem {
		offered("virtio-mem-pci", v.ID)
	}
	for _, o := range s.Others {
		offered(driver(o.Args), o.ID)
	}
}

// formats that keep metadata of their own, by how their files are called.
var formats = []string{".qcow2", ".qcow", ".qed", ".vmdk", ".vdi", ".vhdx", ".vpc", ".vhd"}

// checkDisks finds disks whose bytes would not be the same at the target.
func (p *planner) checkDisks(s model.Shape) {
	for _, d := range s.Disks {
		volume, local := d.Source.Volume, d.Source.Local
		if d.Size == 0 {
			p.refuse("disk-size-unknown", fmt.Sprintf("the host does not say how large disk %s is", d.ID), "it cannot be held against what the target sees", "update the agent of the host")
		}
		switch {
		case (volume == nil) == (local == ""):
			p.refuse("disk-source", fmt.Sprintf("disk %s is recorded with no source or with two", d.ID), "it is not clear where its bytes are", "look at it with `ratchetctl migrate show`, and report it")
		case local != "":
			p.localDisk(d)
		default:
			p.volume(d, *volume)
		}
	}
}

func (p *planner) localDisk(d model.Disk) {
	if slices.Contains(formats, strings.ToLower(path.Ext(d.Source.Local))) {
		p.refuse("disk-not-raw", fmt.Sprintf("disk %s is in %s, which is not raw", d.ID, path.Base(d.Source.Local)),
			"QEMU writes to such a file after the source has let go of it", "convert it with `qemu-img convert -O raw` while the VM is down")
		return
	}
	p.warn("disk %s is local: its %s are sent as well", d.ID, size(d.Size))
}

func (p *planner) volume(d model.Disk, v model.Volume) {
	if strings.HasPrefix(v.Server, "unix:") {
		p.refuse("disk-unreachable", fmt.Sprintf("disk %s is volume %s behind %s", d.ID, v.Name, v.Server),
			"a socket in a file is reached from its own host only", "export the volume on a TCP address, and attach the disk by that")
	}
	if p.in.Volumes == nil {
		return
	}
	have, ok := p.in.Volumes[v.Name]
	switch {
	case !ok:
		p.refuse("volume-missing", fmt.Sprintf("the gateway has no volume %s, which disk %s is", v.Name, d.ID),
			"it could not be handed over", "look with `ratchetctl volume list`; the disk may be of another gateway")
	case have != d.Size && d.Size != 0:
		p.refuse("disk-size", fmt.Sprintf("disk %s has %s, and volume %s has %s", d.ID, size(d.Size), v.Name, size(have)),
			"the guest would find its disk longer or shorter than before", "let the VM take the new size first, by resizing its disk where it is")
	}
}
