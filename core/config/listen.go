package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxSocketPath is what the kernel takes, without the zero behind it (unix(7)).
const maxSocketPath = 107

// ListenAddress splits the selector of a listener, "tcp::10809" or "unix:/run/x.sock", into what package net takes. Its
// errors are all that can be known without listening. Port 0 is one that the kernel chooses.
func ListenAddress(selector string) (network, address string, err error) {
	network, address, _ = strings.Cut(selector, ":")
	switch {
	case network == "tcp":
		_, _, err = splitTCP(selector)
	case network != "unix" || !strings.HasPrefix(address, "/"):
		err = fmt.Errorf("%q is no place to listen; write tcp::PORT, tcp:ADDRESS:PORT or unix:/PATH", selector)
	case len(address) > maxSocketPath:
		err = fmt.Errorf("the path of a socket has at most %d bytes; %q has %d", maxSocketPath, address, len(address))
	}
	return network, address, err
}

// splitListen reads "tcp:HOST:PORT" with a port that others can know; the host may be empty for all addresses.
func splitListen(s string) (netip.Addr, uint16, error) {
	a, port, err := splitTCP(s)
	if err == nil && port == 0 {
		err = noPort(s)
	}
	return a, port, err
}

func splitTCP(s string) (netip.Addr, uint16, error) {
	malformed := fmt.Errorf("%q is no place to listen; write tcp::PORT or tcp:ADDRESS:PORT", s)
	rest, ok := strings.CutPrefix(s, "tcp:")
	if !ok {
		return netip.Addr{}, 0, malformed
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return netip.Addr{}, 0, malformed
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.Addr{}, 0, noPort(s)
	}
	if host == "" {
		return netip.Addr{}, uint16(n), nil
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, 0, malformed
	}
	return a, uint16(n), nil
}

func noPort(s string) error { return fmt.Errorf("%q has no port from 1 to 65535", s) }
