package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// network gives the first card the guest's address, for good: the agent moves it from card to card later.
func network() error {
	dirs, err := filepath.Glob("/sys/class/net/*/device")
	if err != nil || len(dirs) == 0 {
		return errors.New("no network card")
	}
	link, err := net.InterfaceByName(filepath.Base(filepath.Dir(dirs[0])))
	if err != nil {
		return err
	}
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	lo := rtnetlink.LinkMessage{Index: 1, Flags: unix.IFF_UP, Change: unix.IFF_UP}
	up := rtnetlink.LinkMessage{Index: uint32(link.Index), Flags: unix.IFF_UP, Change: unix.IFF_UP}
	address, gateway := net.ParseIP(load.GuestAddress).To4(), net.ParseIP(load.HostAddress).To4()
	err = errors.Join(c.Link.Set(&lo), c.Link.Set(&up),
		c.Address.New(&rtnetlink.AddressMessage{
			Family: unix.AF_INET, PrefixLength: 24, Index: uint32(link.Index),
			Attributes: &rtnetlink.AddressAttributes{Address: address, Local: address, Broadcast: net.IPv4(10, 0, 2, 255).To4()},
		}),
		c.Route.Add(&rtnetlink.RouteMessage{
			Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT, Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
			Attributes: rtnetlink.RouteAttributes{OutIface: uint32(link.Index), Gateway: gateway},
		}))
	if err != nil {
		return fmt.Errorf("set %s up: %w", link.Name, err)
	}
	return nil
}
