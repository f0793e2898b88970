package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// DeviceName is the device's name when Options names none.
const DeviceName = "ratchet-vx"

// Options says what the device should be. The zero value is right for a host.
type Options struct {
	Name string // DeviceName when empty
	Port uint16 // Port when 0
	MTU  uint32 // of inner packets; 1500 less Overhead6 when 0. It bounds only what the host's stack sends into the device.
}

// Device is the kernel's end of the overlay in one network namespace.
type Device struct {
	Name  string
	Index int
}

// Ensure makes the device, or takes over the one that is there. A device of that name that is something else is an
// error that says so: it is not ours to delete.
func Ensure(o Options) (*Device, error) {
	if o.Name == "" {
		o.Name = DeviceName
	}
	if o.Port == 0 {
		o.Port = Port
	}
	if o.MTU == 0 {
		o.MTU = 1500 - Overhead6
	}
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	defer c.Close()
	d, err := find(c, o)
	if errors.Is(err, os.ErrNotExist) {
		err = c.Link.New(&rtnetlink.LinkMessage{
			Type: unix.ARPHRD_ETHER,
			Attributes: &rtnetlink.LinkAttributes{
				Name: o.Name, Address: MAC(), MTU: o.MTU,
				Info: &rtnetlink.LinkInfo{Kind: "vxlan", Data: &vxlan{port: o.Port}},
			},
		})
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make vxlan device %s: %w", o.Name, err)
		}
		taken := err != nil // by another part of this agent that made it meanwhile, or by somebody else's
		if d, err = find(c, o); taken && errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("make %s: another vxlan device of this namespace takes every VNI of UDP port %d; delete it or choose another port", o.Name, o.Port)
		}
	}
	if err != nil {
		return nil, err
	}
	// Nobody is asked for an address inside the overlay: what the stack sends goes to MAC, which every host has.
	if err := c.Link.Set(&rtnetlink.LinkMessage{
		Index: uint32(d.Index), Flags: unix.IFF_UP | unix.IFF_NOARP, Change: unix.IFF_UP | unix.IFF_NOARP,
	}); err != nil {
		return nil, fmt.Errorf("set %s up: %w", d.Name, err)
	}
	// Packets arrive over the overlay from sources to which the way back is another link (direct return).
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+d.Name+"/rp_filter", []byte("0"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("allow direct return on %s: %w", d.Name, err)
	}
	return d, nil
}

func find(c *rtnetlink.Conn, o Options) (*Device, error) {
	links, err := c.Link.List()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attributes == nil || l.Attributes.Name != o.Name {
			continue
		}
		if l.Attributes.Info == nil || !external(l.Attributes.Info, o.Port) {
			return nil, fmt.Errorf("link %s exists and is not an external vxlan device with gbp on UDP port %d: rename or delete it", o.Name, o.Port)
		}
		return &Device{Name: o.Name, Index: int(l.Index)}, nil
	}
	return nil, fmt.Errorf("find link %s: %w", o.Name, os.ErrNotExist)
}

// Delete removes the device, and with it all programs on it.
func (d *Device) Delete() error {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer c.Close()
	if err := c.Link.Delete(uint32(d.Index)); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete %s: %w", d.Name, err)
	}
	return nil
}

// vxlan is the driver's part of a link message: external (metadata by packet), Group Policy ID, zero UDP checksums.
type vxlan struct{ port uint16 }

var _ rtnetlink.LinkDriver = (*vxlan)(nil)

func (v *vxlan) New() rtnetlink.LinkDriver { return &vxlan{} }
func (v *vxlan) Kind() string              { return "vxlan" }

func (v *vxlan) Encode(ae *netlink.AttributeEncoder) error {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], v.port)
	ae.Uint32(unix.IFLA_VXLAN_ID, 0)
	ae.Bytes(unix.IFLA_VXLAN_PORT, port[:])
	ae.Uint8(unix.IFLA_VXLAN_LEARNING, 0)
	ae.Uint8(unix.IFLA_VXLAN_COLLECT_METADATA, 1)
	ae.Uint8(unix.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, 1)
	ae.Uint8(unix.IFLA_VXLAN_UDP_ZERO_CSUM6_RX, 1)
	ae.Flag(unix.IFLA_VXLAN_GBP, true)
	return nil
}

func (v *vxlan) Decode(*netlink.AttributeDecoder) error { return nil }

// external says whether what the kernel shows of a link is a device that Ensure made. The driver is not registered
// with the library, whose registry is one for the whole process: the attributes come as bytes.
func external(info *rtnetlink.LinkInfo, port uint16) bool {
	data, ok := info.Data.(*rtnetlink.LinkData)
	if info.Kind != "vxlan" || !ok {
		return false
	}
	ad, err := netlink.NewAttributeDecoder(data.Data)
	if err != nil {
		return false
	}
	var metadata, gbp, samePort bool
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_VXLAN_COLLECT_METADATA:
			metadata = ad.Uint8() == 1
		case unix.IFLA_VXLAN_GBP:
			gbp = true
		case unix.IFLA_VXLAN_PORT:
			b := ad.Bytes()
			samePort = len(b) == 2 && binary.BigEndian.Uint16(b) == port
		}
	}
	return ad.Err() == nil && metadata && gbp && samePort
}
