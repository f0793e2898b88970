package vm

import (
	"fmt"
	"strings"
)

// Fixed file descriptors of a QEMU process: sockets made before it starts, so that there is no path to choose,
// no name length limit and nobody else who could connect.
const (
	qmpFD = 3
	tpmFD = 4
	tapFD = 5 // the first one
)

// launch is what the command line depends on besides the configuration.
type launch struct {
	accel Accel
	// code and vars are the flash images; empty for a direct boot.
	code, vars string
}

// diskDevices maps a model to its -device, the controller it needs, and how the two are joined.
var diskDevices = map[string]struct {
	device     string
	controller string // "%d" is the disk's number; one controller for each disk keeps PCI paths independent
	bus        string
}{
	"virtio-blk":  {device: "virtio-blk-pci"},
	"virtio-scsi": {device: "scsi-hd", controller: "virtio-scsi-pci,id=ctl%d", bus: "ctl%d.0"},
	"nvme":        {device: "nvme"},
	"ahci":        {device: "ide-hd", controller: "ich9-ahci,id=ctl%d", bus: "ctl%d.0"},
	"megasas":     {device: "scsi-hd", controller: "megasas,id=ctl%d", bus: "ctl%d.0"},
	"usb":         {device: "usb-storage", controller: "qemu-xhci,id=ctl%d", bus: "ctl%d.0"},
}

var nicDevices = map[string]string{
	"virtio-net": "virtio-net-pci",
	"e1000":      "e1000",
	"e1000e":     "e1000e",
	"vmxnet3":    "vmxnet3",
	"rtl8139":    "rtl8139",
}

// args builds QEMU's command line. Devices get ids by position (disk0, nic0) for QMP's device_del and qom-get.
func (c Config) args(l launch) []string {
	uefi, isUEFI := c.Firmware.(UEFI)
	machine := "q35,smm=off"
	if isUEFI && uefi.SecureBoot {
		machine = "q35,smm=on"
	}
	a := []string{
		"-name", c.Name + ",debug-threads=on",
		"-no-user-config", "-nodefaults", "-display", "none",
		"-machine", machine,
	}
	a = append(a, l.accel.args()...)
	a = append(a,
		"-m", c.Memory, "-smp", fmt.Sprint(c.CPUs),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", qmpFD), "-mon", "chardev=qmp,mode=control",
	)
	if c.NoReboot {
		a = append(a, "-no-reboot")
	}
	switch f := c.Firmware.(type) {
	case Direct:
		a = append(a, "-kernel", f.Kernel, "-append", f.Cmdline)
		if f.Initrd != "" {
			a = append(a, "-initrd", f.Initrd)
		}
	case UEFI:
		if f.SecureBoot {
			// Variables may be written from system management mode only, and sleep must not be a way around it.
			a = append(a,
				"-global", "driver=cfi.pflash01,property=secure,value=on",
				"-global", "ICH9-LPC.disable_s3=1")
		}
		a = append(a,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+escape(l.code),
			"-drive", "if=pflash,unit=1,format=raw,file="+escape(l.vars))
	}
	for i, d := range c.Disks {
		a = append(a, d.args(i)...)
	}
	users, taps := 0, 0
	for i, n := range c.NICs {
		a = append(a, n.args(i, users, taps)...)
		switch n.Net.(type) {
		case User:
			users++
		case Tap:
			taps++
		}
	}
	if c.TPM != nil {
		a = append(a,
			"-chardev", fmt.Sprintf("socket,id=tpmctl,fd=%d", tpmFD),
			"-tpmdev", "emulator,id=tpm0,chardev=tpmctl",
			"-device", or(c.TPM.Model, "tpm-crb")+",tpmdev=tpm0")
	}
	return append(a, c.ExtraArgs...)
}

func (d Disk) args(i int) []string {
	drive := fmt.Sprintf("if=none,id=drive%d,format=%s,file=%s", i, d.Format, escape(d.Path))
	// Discards reach the file, so that TRIM in the guest frees space on the host.
	drive += ",discard=unmap"
	if d.ReadOnly {
		drive += ",readonly=on"
	}
	if d.Snapshot {
		drive += ",snapshot=on"
	}
	a := []string{"-drive", drive}
	model := diskDevices[d.Model]
	// From one on: a kernel given by Direct is the boot device with index zero.
	device := fmt.Sprintf("%s,id=disk%d,drive=drive%d,serial=%s,bootindex=%d", model.device, i, i, escape(d.Serial), i+1)
	if model.controller != "" {
		a = append(a, "-device", fmt.Sprintf(model.controller, i))
		device += ",bus=" + fmt.Sprintf(model.bus, i)
	}
	return append(a, "-device", device)
}

// args of the NIC in position i; users and taps count the networks of these kinds before it.
func (n NIC) args(i, users, taps int) []string {
	device := fmt.Sprintf("%s,id=nic%d,mac=%s", nicDevices[n.Model], i, n.MAC)
	// Option ROMs only slow the firmware down: nothing here boots from the network.
	device += ",romfile="
	var netdev string
	switch f := n.Net.(type) {
	case User:
		netdev = fmt.Sprintf("user,id=net%d,net=10.0.%d.0/24", i, 2+users)
		if f.Restrict {
			netdev += ",restrict=on"
		}
		for _, fw := range f.Forwards {
			netdev += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", fw.Host, fw.Guest)
		}
	case Hub:
		netdev = fmt.Sprintf("hubport,id=net%d,hubid=%d", i, f.N)
	case Tap:
		netdev = fmt.Sprintf("tap,id=net%d,fd=%d", i, tapFD+taps)
	default:
		return []string{"-device", device}
	}
	return []string{"-netdev", netdev, "-device", device + fmt.Sprintf(",netdev=net%d", i)}
}

// escape doubles commas, which end a value in QEMU's option syntax.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
