package args

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// place adds where a device sits; what a shape leaves open is QEMU's choice.
func (o Object) place(bus, addr string) Object {
	if bus != "" {
		o["bus"] = bus
	}
	if addr != "" {
		o["addr"] = addr
	}
	return o
}

// VCPU is the nth of a board, counted from 1: vCPU 0 is no device.
func VCPU(cpu string, n int) Object {
	return Object{"driver": cpu + "-x86_64-cpu", "id": "cpu" + strconv.Itoa(n), "socket-id": 0, "core-id": n, "thread-id": 0}
}

// BackendID is the memory behind a DIMM or a virtio-mem device.
func BackendID(device string) string { return "mem-" + device }

// MemoryBackend is the memory of a device.
func MemoryBackend(device string, bytes uint64) Object {
	return Object{"qom-type": "memory-backend-ram", "id": BackendID(device), "size": bytes}
}

// DIMM is the module in front of its memory.
func DIMM(d model.DIMM) Object {
	o := Object{"driver": "pc-dimm", "id": d.ID, "memdev": BackendID(d.ID), "slot": d.Slot}
	if d.Addr != 0 {
		o["addr"] = d.Addr
	}
	return o
}

// VirtioMem is the device in front of its memory.
func VirtioMem(v model.VirtioMem) Object {
	o := Object{"driver": "virtio-mem-pci", "id": v.ID, "memdev": BackendID(v.ID), "requested-size": v.Requested}
	if v.Block != 0 {
		o["block-size"] = v.Block
	}
	return o.place(v.Bus, v.Addr)
}

// PortID is the backend of a NIC.
func PortID(nic string) string { return "nic-" + nic }

// NIC is a card on its backend. It has no boot ROM: its size would have to be the same in both hosts' packages.
func NIC(n model.NIC) Object {
	return Object{"driver": n.Model, "id": n.ID, "netdev": PortID(n.ID), "mac": n.MAC, "romfile": ""}.place(n.Bus, n.Addr)
}

// NodeID is the block node behind a disk.
func NodeID(disk string) string { return "disk-" + disk }

// nbdCredentials names the credentials for gateways.
const nbdCredentials = "gateway-tls"

// Credentials are those for gateways.
func Credentials(o Options) Object {
	return Object{"qom-type": "tls-creds-x509", "id": nbdCredentials, "dir": o.NBDCredentials, "endpoint": "client", "verify-peer": true}
}

// reconnectDelay is how many seconds a request waits for a gateway that is gone: one that restarts is back by then.
const reconnectDelay = 20

// Node is where a disk's bytes are.
func Node(d model.Disk, o Options) (Object, error) {
	if d.Source.Local != "" {
		return Object{"driver": "file", "node-name": NodeID(d.ID), "filename": d.Source.Local, "discard": "unmap"}, nil
	}
	v := d.Source.Volume
	server, tcp, err := Server(v.Server)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.ID, err)
	}
	export := v.Name
	if token := o.Tokens[v.Name]; token != "" {
		export += "@" + token
	}
	node := Object{"driver": "nbd", "node-name": NodeID(d.ID), "server": server, "export": export, "reconnect-delay": reconnectDelay}
	if tcp && o.NBDCredentials != "" {
		node["tls-creds"] = nbdCredentials
	}
	return node, nil
}

// Server is the address of an NBD server, "tcp:HOST:PORT" or "unix:/path".
func Server(address string) (o Object, tcp bool, err error) {
	kind, rest, _ := strings.Cut(address, ":")
	switch at := strings.LastIndexByte(rest, ':'); {
	case kind == "unix" && strings.HasPrefix(rest, "/"):
		return Object{"type": "unix", "path": rest}, false, nil
	case kind == "tcp" && at > 0 && at < len(rest)-1:
		return Object{"type": "inet", "host": strings.Trim(rest[:at], "[]"), "port": rest[at+1:]}, true, nil
	}
	return nil, false, fmt.Errorf("server %q is neither tcp:HOST:PORT nor unix:/path", address)
}

// Disk is the device in front of its node.
func Disk(d model.Disk) Object {
	o := Object{"driver": d.Model, "id": d.ID, "drive": NodeID(d.ID), "werror": "stop", "rerror": "stop", "write-cache": "on"}
	if d.Serial != "" {
		o["serial"] = d.Serial
	}
	if !onController(d.Model) {
		return o.place(d.Bus, d.Addr)
	}
	// On a SCSI controller the address is TARGET:LUN, on the others the unit.
	o = o.place(d.Bus, "")
	target, lun, scsi := strings.Cut(d.Addr, ":")
	switch {
	case d.Addr == "":
	case scsi:
		o["scsi-id"], o["lun"] = number(target), number(lun)
	default:
		o["unit"] = number(target)
	}
	return o
}

// onController tells disks that hang on a controller from those that are PCI devices themselves.
func onController(disk string) bool { return disk == "scsi-hd" || disk == "ide-hd" }

// number was checked to be one.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
