package nettest

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// End is one end of a cable.
type End struct {
	On        *Namespace
	Name      string
	MAC       string   // empty: the kernel's choice
	MTU       int      // 0: 1500
	Addresses []string // as "10.0.0.1/24"
}

// Veth joins two namespaces, or two links of one, by a cable, both ends up.
func Veth(t testing.TB, a, b End) {
	t.Helper()
	a.On.IP(fmt.Sprintf("link add %s%s%s type veth peer name %s%s%s netns %s",
		a.Name, a.mac(), a.mtu(), b.Name, b.mac(), b.mtu(), b.On.Path()))
	a.up()
	b.up()
}

func (e End) mac() string {
	if e.MAC == "" {
		return ""
	}
	return " address " + e.MAC
}

func (e End) mtu() string {
	if e.MTU == 0 {
		return ""
	}
	return fmt.Sprintf(" mtu %d", e.MTU)
}

func (e End) up() {
	e.On.t.Helper()
	// Up before the addresses: with the link down IPv6 would refuse them on some kernels.
	lines := []string{"link set " + e.Name + " up"}
	for _, a := range e.Addresses {
		if strings.Contains(a, ":") {
			a += " nodad"
		}
		lines = append(lines, fmt.Sprintf("address add %s dev %s", a, e.Name))
	}
	e.On.IP(lines...)
}

// Switch is a namespace with a bridge that joins the hosts plugged into it.
type Switch struct {
	*Namespace
	t     testing.TB
	ports int
}

// NewSwitch makes a switch without ports. It forwards at once: no spanning tree, no learning delay.
func NewSwitch(t testing.TB) *Switch {
	t.Helper()
	s := &Switch{Namespace: New(t), t: t}
	s.IP("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set br0 up")
	return s
}

// Plug joins a host to the switch and returns the name of the switch's port.
func (s *Switch) Plug(host End) (port string) {
	s.t.Helper()
	port = fmt.Sprintf("p%d", s.ports)
	s.ports++
	Veth(s.t, host, End{On: s.Namespace, Name: port, MTU: host.MTU})
	s.IP(fmt.Sprintf("link set %s master br0", port))
	return port
}

// NoOffload makes the kernel put finished, MTU-sized packets with their checksums on a link, as a wire would
// carry them. Between veth ends it otherwise hands over large packets whose checksums nobody has computed, and
// a program that encapsulates or redirects such a packet makes them final: the receiver drops it.
func (n *Namespace) NoOffload(link string) {
	n.t.Helper()
	n.Run(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			n.t.Fatalf("open socket: %v", err)
		}
		defer unix.Close(fd)
		for _, feature := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO} {
			value := struct{ command, on uint32 }{command: feature}
			request := struct {
				name  [unix.IFNAMSIZ]byte
				value unsafe.Pointer
				_     [16]byte
			}{value: unsafe.Pointer(&value)}
			copy(request.name[:unix.IFNAMSIZ-1], link)
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
				n.t.Fatalf("turn offload %#x of %s off: %v", feature, link, errno)
			}
		}
	})
}
