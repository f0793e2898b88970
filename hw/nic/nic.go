// Package nic reads what a network interface is: its permanent address, its link state and
// the version of its firmware. It changes nothing; links stay as they are.
//
// Name, address and state come from sysfs below a root directory. The permanent address and
// the firmware version are only told over ethtool's ioctl, which exists on the real system
// alone; a Reader with another root leaves them out.
package nic

import (
	"encoding/hex"
	"net"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/internal/sysfs"
)

// Identity is what tells one NIC from another.
type Identity struct {
	// MAC is the permanent address in the usual form, "" when the NIC has none of its own.
	MAC      string
	Firmware string
}

// Read looks at interface name whose directory in sysfs is dir. live says that the interface
// is one of the running system, in this network namespace.
func Read(dir, name string, live bool) Identity {
	var id Identity
	if live {
		id = ask(name)
	}
	if id.MAC == "" && sysfs.Attribute(dir, "addr_assign_type") == "0" { // NET_ADDR_PERM
		id.MAC = usable(sysfs.Attribute(dir, "address"))
	}
	return id
}

// usable drops addresses that cannot name a NIC: none, all zero, or a group's.
func usable(mac string) string {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 || hex.EncodeToString(hw) == "000000000000" {
		return ""
	}
	return hw.String()
}

// ask puts the two questions that only ethtool answers. A driver that does not answer leaves
// the field empty.
func ask(name string) Identity {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Identity{}
	}
	defer unix.Close(fd)
	id := Identity{MAC: usable(permanentAddress(fd, name))}
	if info, err := unix.IoctlGetEthtoolDrvinfo(fd, name); err == nil {
		id.Firmware = strings.TrimSpace(unix.ByteSliceToString(info.Fw_version[:]))
		if id.Firmware == "N/A" { // how e1000 and others spell "none"
			id.Firmware = ""
		}
	}
	return id
}

// permanentAddress does ETHTOOL_GPERMADDR, for which x/sys has no wrapper.
func permanentAddress(fd int, name string) string {
	// struct ethtool_perm_addr with room for the longest address (MAX_ADDR_LEN).
	request := struct {
		cmd, size uint32
		data      [32]byte
	}{cmd: unix.ETHTOOL_GPERMADDR, size: 32}
	// struct ifreq: name, then a union that holds a pointer here.
	ifreq := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&request)}
	if len(name) >= unix.IFNAMSIZ {
		return ""
	}
	copy(ifreq.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq))); errno != 0 {
		return ""
	}
	return net.HardwareAddr(request.data[:min(request.size, 32)]).String()
}
