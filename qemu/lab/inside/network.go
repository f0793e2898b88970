package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

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

// fetch gets a small file by TFTP (RFC 1350).
func fetch(server, name string) ([]byte, error) {
	c, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	to, err := net.ResolveUDPAddr("udp4", server)
	if err != nil {
		return nil, err
	}
	const request, data = 1, 3
	if _, err := c.WriteTo(append([]byte{0, request}, name+"\x00octet\x00"...), to); err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	buf := make([]byte, 4+512)
	n, from, err := c.ReadFrom(buf)
	if err != nil {
		return nil, err
	}
	if n < 4 || n == len(buf) || binary.BigEndian.Uint16(buf) != data {
		return nil, fmt.Errorf("no file %s of less than 512 bytes", name)
	}
	// A whole file in one block ends with its acknowledgement.
	_, err = c.WriteTo([]byte{0, 4, buf[2], buf[3]}, from)
	return buf[4:n], err
}
