package host

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// newNetNS makes a network namespace that lives as long as the file, with loopback up.
func newNetNS() (*os.File, error) {
	var ns *os.File
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if ns, err = threadNetNS(); err != nil {
			return err
		}
		if err := linkUp("lo"); err != nil {
			ns.Close()
			return err
		}
		return nil
	})
	return ns, err
}

// inNetNS runs fn on a thread in the namespace; nil is the present one. Processes that fn
// starts and sockets that it makes belong to the namespace.
func inNetNS(ns *os.File, fn func() error) error {
	if ns == nil {
		return fn()
	}
	return onOwnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return fn()
	})
}

// onOwnThread runs fn on a thread that ends with it: the goroutine never unlocks, so the
// runtime throws the thread away and no other goroutine can find itself in its namespace.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}

// threadNetNS is the namespace of the calling thread. /proc/self would be the one of the
// first thread, which may be one of those that were thrown away.
func threadNetNS() (*os.File, error) {
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return f, nil
}

// MoveLink moves the named link from core's network namespace into the one behind nsfd. The
// kernel moves it back to the first namespace (a physical NIC) or deletes it (a virtual
// one) when that namespace ends.
func MoveLink(name string, nsfd int) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("move link %s: %w", name, err)
	}
	conn, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("move link %s: %w", name, err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Link.Set(&rtnetlink.LinkMessage{
		Index:      uint32(link.Index),
		Attributes: &rtnetlink.LinkAttributes{NetNS: rtnetlink.NetNSForFD(uint32(nsfd))},
	})
	if err != nil {
		return fmt.Errorf("move link %s: %w", name, err)
	}
	return nil
}

// ReturnLink moves a link from the namespace ns back into core's. It is found by its hardware address, because the
// plugin may have renamed it, else by name.
func ReturnLink(mac, name string, ns *os.File) error {
	home, err := threadNetNS()
	if err != nil {
		return fmt.Errorf("return link %s: %w", name, err)
	}
	defer home.Close()
	return inNetNS(ns, func() error {
		links, err := net.Interfaces()
		if err != nil {
			return fmt.Errorf("return link %s: %w", name, err)
		}
		for _, l := range links {
			if mac != "" && l.HardwareAddr.String() == mac {
				name = l.Name
			}
		}
		return MoveLink(name, int(home.Fd()))
	})
}

func linkUp(name string) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	conn, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Link.Set(&rtnetlink.LinkMessage{
		Index: uint32(link.Index), Flags: unix.IFF_UP, Change: unix.IFF_UP,
	})
	if err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}
