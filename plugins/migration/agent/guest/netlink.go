package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernelNetwork is the network of this machine. Each call has a socket of its own: swaps are rare.
type kernelNetwork struct{}

var _ Network = kernelNetwork{}

// verbs of rtnetlink by kind.
var (
	rtmNew = [...]netlink.HeaderType{Address: unix.RTM_NEWADDR, Route: unix.RTM_NEWROUTE, Neighbour: unix.RTM_NEWNEIGH}
	rtmDel = [...]netlink.HeaderType{Address: unix.RTM_DELADDR, Route: unix.RTM_DELROUTE, Neighbour: unix.RTM_DELNEIGH}
	rtmGet = [...]netlink.HeaderType{Address: unix.RTM_GETADDR, Route: unix.RTM_GETROUTE, Neighbour: unix.RTM_GETNEIGH}
)

func execute(t netlink.HeaderType, flags netlink.HeaderFlags, data []byte) ([]netlink.Message, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Execute(netlink.Message{Header: netlink.Header{Type: t, Flags: netlink.Request | flags}, Data: data})
}

func (kernelNetwork) Up(index uint32) error {
	m := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(m[4:], index)
	binary.NativeEndian.PutUint32(m[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(m[12:], unix.IFF_UP)
	_, err := execute(unix.RTM_NEWLINK, netlink.Acknowledge, m)
	return err
}

func (kernelNetwork) Entries(kind Kind, index uint32) ([]Entry, error) {
	var out []Entry
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		m := make([]byte, headerSize[kind])
		m[0] = family
		replies, err := execute(rtmGet[kind], netlink.Dump, m)
		if family == unix.AF_INET6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
			break // a guest without IPv6
		}
		if err != nil {
			return nil, err
		}
		for _, r := range replies {
			e, err := parseEntry(kind, r.Data, index)
			if errors.Is(err, errSkip) {
				continue
			}
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	return out, nil
}

func (kernelNetwork) Put(e Entry) error {
	flags := netlink.Acknowledge | netlink.Create | netlink.Replace
	_, err := execute(rtmNew[e.Kind], flags, e.Message)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

func (kernelNetwork) Delete(e Entry) error {
	_, err := execute(rtmDel[e.Kind], netlink.Acknowledge, e.Message)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Announce sends one frame; switches and neighbours take it as it is.
func (kernelNetwork) Announce(index uint32, mac string, addr netip.Addr) error {
	hw, err := parseMAC(mac)
	if err != nil {
		return err
	}
	f := announcement(hw, addr)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open packet socket: %w", err)
	}
	defer unix.Close(fd)
	to := unix.SockaddrLinklayer{Ifindex: int(index), Halen: 6}
	copy(to.Addr[:], f[:6])
	return unix.Sendto(fd, f, 0, &to)
}
