package nexthop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What linux/if_link.h and linux/ip.h say and x/sys does not.
const (
	iflaInetConf         = 1
	ipv4DevconfForwarded = 1
)

// Forward turns forwarding on for a link, both families: the kernel finds no next hop for the program on a link that
// does not forward. The link's namespace is the calling thread's. A kernel without IPv6 is all right.
func Forward(link *net.Interface) error {
	return errors.Join(forward4(link), forward6(link))
}

// forward4 goes over netlink, which needs no /proc.
func forward4(link *net.Interface) error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("turn IPv4 forwarding on for %s: %w", link.Name, err)
	}
	defer conn.Close()
	e := netlink.NewAttributeEncoder()
	e.Nested(unix.IFLA_AF_SPEC, func(families *netlink.AttributeEncoder) error {
		families.Nested(unix.AF_INET, func(inet *netlink.AttributeEncoder) error {
			inet.Nested(iflaInetConf, func(conf *netlink.AttributeEncoder) error {
				conf.Uint32(ipv4DevconfForwarded, 1)
				return nil
			})
			return nil
		})
		return nil
	})
	attributes, err := e.Encode()
	if err != nil {
		return fmt.Errorf("turn IPv4 forwarding on for %s: %w", link.Name, err)
	}
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], uint32(link.Index))
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_SETLINK, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(header, attributes...),
	})
	if err != nil {
		return fmt.Errorf("turn IPv4 forwarding on for %s: %w", link.Name, err)
	}
	return nil
}

// forward6 writes the sysctl: netlink cannot set it.
func forward6(link *net.Interface) error {
	file := "/proc/sys/net/ipv6/conf/" + link.Name + "/forwarding"
	if strings.Contains(link.Name, "/") {
		return fmt.Errorf("turn IPv6 forwarding on for %s: no name of a link", link.Name)
	}
	if now, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(now)) == "1" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		return fmt.Errorf("turn IPv6 forwarding on for %s: %w", link.Name, err)
	}
	return nil
}
