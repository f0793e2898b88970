package port

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// End is an instance's end of a VNI, to be plugged in.
type End struct {
	Device    string // the link on the host
	Netns     string // veth: path of the instance's namespace
	Inner     string // veth: the link there; eth0 when empty
	Lower     string // macvtap: the link it is on
	MAC       [6]byte
	Addresses []netip.Addr // veth: put on the inner link, each alone (/32, /128): routes are the instance's own
}

// PlugVeth makes a pair and puts its inner end into the instance, complete and up.
func PlugVeth(e End) error {
	if e.Inner == "" {
		e.Inner = "eth0"
	}
	ns, err := os.Open(e.Netns)
	if err != nil {
		return fmt.Errorf("plug %s in: open the instance's namespace: %w", e.Device, err)
	}
	defer ns.Close()
	host, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("plug %s in: %w", e.Device, err)
	}
	defer host.Close()
	// The peer is born in the instance with its MAC: there is no moment in which it is seen half made.
	peer := &rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
		Name: e.Inner, Address: net.HardwareAddr(e.MAC[:]), NetNS: rtnetlink.NetNSForFD(uint32(ns.Fd())),
	}}
	if err := host.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
		Name: e.Device, Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{PeerInfo: peer}},
	}}); err != nil {
		return fmt.Errorf("make veth %s: %w", e.Device, err)
	}
	if err := e.dress(int(ns.Fd())); err != nil {
		return errors.Join(err, unplug(host, e.Device))
	}
	return up(host, e.Device)
}

// dress gives the inner end its addresses and sets it up.
func (e End) dress(ns int) error {
	inner, err := rtnetlink.Dial(&netlink.Config{NetNS: ns})
	if err != nil {
		return fmt.Errorf("enter the instance's namespace: %w", err)
	}
	defer inner.Close()
	index, err := find(inner, e.Inner)
	if err != nil {
		return err
	}
	if err := up(inner, e.Inner); err != nil {
		return err
	}
	for _, a := range e.Addresses {
		m := &rtnetlink.AddressMessage{
			Family: unix.AF_INET, PrefixLength: uint8(a.BitLen()), Index: index, Scope: unix.RT_SCOPE_UNIVERSE,
			Attributes: &rtnetlink.AddressAttributes{Address: a.AsSlice(), Local: a.AsSlice()},
		}
		if a.Is6() {
			// Another end has the same address, on purpose: duplicate detection would find it.
			m.Family, m.Attributes.Flags = unix.AF_INET6, unix.IFA_F_NODAD
		}
		if err := inner.Address.New(m); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s to %s: %w", a, e.Inner, err)
		}
	}
	return nil
}

// PlugTap makes a tap that stays when nobody has it open; a virtual machine opens it by its name, and so is seen
// to live by the carrier.
func PlugTap(e End) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(e.Device)
	if err != nil {
		return fmt.Errorf("make tap %s: %w", e.Device, err)
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return fmt.Errorf("make tap %s: %w", e.Device, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("keep tap %s: %w", e.Device, err)
	}
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer c.Close()
	return up(c, e.Device)
}

// PlugMacvtap makes a macvtap on a lower link. A virtual machine opens /dev/tapN, N being its index.
func PlugMacvtap(e End) error {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer c.Close()
	lower, err := find(c, e.Lower)
	if err != nil {
		return fmt.Errorf("make macvtap %s: %w", e.Device, err)
	}
	if err := c.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
		Name: e.Device, Address: net.HardwareAddr(e.MAC[:]), Type: lower, Info: &rtnetlink.LinkInfo{Kind: "macvtap", Data: &macvtap{}},
	}}); err != nil {
		return fmt.Errorf("make macvtap %s: %w", e.Device, err)
	}
	return up(c, e.Device)
}

// macvtap is the driver's part of a link message. The mode is private: frames between two ends of one lower link
// go over the fence, not around it.
type macvtap struct{}

var _ rtnetlink.LinkDriver = (*macvtap)(nil)

func (*macvtap) New() rtnetlink.LinkDriver { return &macvtap{} }
func (*macvtap) Kind() string              { return "macvtap" }

func (*macvtap) Encode(ae *netlink.AttributeEncoder) error {
	const modePrivate = 1 // MACVLAN_MODE_PRIVATE
	ae.Uint32(unix.IFLA_MACVLAN_MODE, modePrivate)
	return nil
}

func (*macvtap) Decode(*netlink.AttributeDecoder) error { return nil }

func find(c *rtnetlink.Conn, name string) (uint32, error) {
	links, err := c.Link.List()
	if err != nil {
		return 0, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attributes != nil && l.Attributes.Name == name {
			return l.Index, nil
		}
	}
	return 0, fmt.Errorf("find link %s: %w", name, os.ErrNotExist)
}

func up(c *rtnetlink.Conn, name string) error {
	index, err := find(c, name)
	if err != nil {
		return err
	}
	if err := c.Link.Set(&rtnetlink.LinkMessage{Index: index, Flags: unix.IFF_UP, Change: unix.IFF_UP}); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func unplug(c *rtnetlink.Conn, name string) error {
	index, err := find(c, name)
	if err != nil {
		return err
	}
	return c.Link.Delete(index)
}
