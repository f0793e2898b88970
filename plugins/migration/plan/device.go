package plan

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// swapNICs gives every card the model of the type: the new one is plugged beside the old one, which goes when the guest
// has moved over. Both exist for a while, so the new one has a name, a slot and a MAC address of its own.
func (p *planner) swapNICs() {
	want := p.in.Type.NIC
	for _, old := range slices.Clone(p.shape.NICs) {
		if want == "" || old.Model == want {
			continue
		}
		if !p.pluggable("network card", want, old.ID, old.Bus) {
			continue
		}
		bus, addr, ok := freePlace(p.shape, old.Bus)
		if !ok {
			p.noPlace(old.ID)
			continue
		}
		p.need(model.CanMoveNIC, "a network card changes its model")
		p.need(model.CanDriver+want, "a network card becomes one")
		card := old
		card.ID, card.Model, card.Bus, card.Addr = nextID(p.shape, old.ID), want, bus, addr
		card.MAC = newMAC(p.shape, old, want)
		p.warn("the guest's card %s gets the MAC address %s in place of %s: reservations that name the old one must follow", old.ID, card.MAC, old.MAC)
		p.do(Step{
			Kind: SwapNIC, Side: Source, Device: old.ID, NIC: &Change[model.NIC]{old, card}, Gap: swapGap,
			Why: "at the source, where the VM can stay if the guest does not take the new card",
		})
	}
	if want != "" && len(p.shape.NICs) > 0 && swapGap > p.in.Goal.Gap() && slices.ContainsFunc(p.steps, func(s Step) bool { return s.Kind == SwapNIC }) {
		p.warn("the guest may be out of reach for %v while a card is swapped, longer than the %v that the goal allows", swapGap, p.in.Goal.Gap())
	}
}

// newMAC is an address of QEMU's own range. It follows from the card, so that a plan made twice is the same plan.
func newMAC(s model.Shape, old model.NIC, want string) string {
	for n := 0; ; n++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%d", s.VM, old.MAC, want, n))
		mac := fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
		if !slices.ContainsFunc(s.NICs, func(c model.NIC) bool { return strings.EqualFold(c.MAC, mac) }) {
			return mac
		}
	}
}

// mostSerial is how many bytes of a serial number virtio-blk and ATA have room for: VIRTIO_BLK_ID_BYTES, and words 10 to 19 of IDENTIFY
// DEVICE.
const mostSerial = 20

// swapDisks gives every disk the model of the type. Its bytes stay where they are; the guest finds it again by its serial.
func (p *planner) swapDisks() {
	want := p.in.Type.Disk
	for _, old := range slices.Clone(p.shape.Disks) {
		if want == "" || old.Model == want {
			continue
		}
		if want != "virtio-blk-pci" && want != "scsi-hd" {
			p.refuse("disk-model-unknown", fmt.Sprintf("disks cannot become %s", want),
				"models other than these cannot be plugged while a VM runs, or cannot be moved", "choose virtio-blk-pci or scsi-hd")
			return
		}
		if !p.pluggable("disk", want, old.ID, old.Bus) {
			continue
		}
		if old.Serial == "" {
			p.refuse("disk-without-serial", fmt.Sprintf("disk %s has no serial number", old.ID),
				"the guest could not find it again under another model", "give it one when the VM is next started, or leave disks as they are")
			continue
		}
		if len(old.Serial) > mostSerial {
			p.refuse("disk-serial-too-long", fmt.Sprintf("the serial number of disk %s is %q, and guests are told %d bytes of one", old.ID, old.Serial, mostSerial),
				"the guest could not tell whether the disk is in use, nor find it again under another model", "give it a shorter one when the VM is next started, or leave disks as they are")
			continue
		}
		bus, addr, ok := p.diskPlace(old, want)
		if !ok {
			continue
		}
		p.need(model.CanMoveDisk, "a disk changes its model")
		p.need(model.CanDriver+want, "a disk becomes one")
		p.warn("disk %s changes its model only if nothing in the guest uses it: one with a mounted file system stays, and everything is undone", old.ID)
		disk := old
		disk.ID, disk.Model, disk.Bus, disk.Addr = nextID(p.shape, old.ID), want, bus, addr
		p.do(Step{
			Kind: SwapDisk, Side: Source, Device: old.ID, Disk: &Change[model.Disk]{old, disk}, Gap: swapGap,
			Why: "at the source, where the VM can stay if the guest does not find its disk again",
		})
	}
}

// diskPlace finds room for the disk under its new model.
func (p *planner) diskPlace(old model.Disk, want string) (bus, addr string, ok bool) {
	if want == "scsi-hd" {
		if bus, addr, ok = freeTarget(p.shape); !ok {
			p.refuse("no-scsi-controller", fmt.Sprintf("there is no room on a virtio-scsi-pci controller for disk %s", old.ID),
				"a SCSI disk sits on a controller", "start the VM with one, or choose virtio-blk-pci")
		}
		return bus, addr, ok
	}
	at := old.Bus
	if onController(p.shape, old.ID) {
		at = "" // the new one is on PCI
	}
	if bus, addr, ok = freePlace(p.shape, at); !ok {
		p.noPlace(old.ID)
	}
	return bus, addr, ok
}

// pluggable tells whether a device can change to a model where it is.
func (p *planner) pluggable(what, want, id, bus string) bool {
	ok := true
	if !slices.Contains(p.in.Source.Devices, want) {
		p.refuse("device-unknown-at-source", fmt.Sprintf("the source %s has no %s", p.in.Source.Name, want),
			fmt.Sprintf("%s %s changes its model before the move", what, id), "choose a model that both hosts have")
		ok = false
	}
	if soldered := bus == "" || bus == "pcie.0"; soldered && q35(p.shape) && !onController(p.shape, id) {
		p.refuse("device-not-pluggable", fmt.Sprintf("%s %s sits on the root bus of a q35 board", what, id),
			"devices there can be neither plugged nor unplugged", "leave its model as it is, or start the VM with the device behind a pcie-root-port")
		ok = false
	}
	return ok
}

func (p *planner) noPlace(id string) {
	p.refuse("no-free-slot", fmt.Sprintf("there is no free PCI slot or root port beside %s", id),
		"the new device is plugged before the old one goes", "start the VM with one more pcie-root-port, or take a device away")
}
