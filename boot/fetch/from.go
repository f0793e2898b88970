package fetch

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
)

// From is where the file is and how the interface gets there.
type From struct {
	URL *url.URL // http, the host as an address
	// Address of the interface; invalid for one by DHCP. Gateway is for a host outside of its network.
	Address netip.Prefix
	Gateway netip.Addr
}

// Parse reads URL [ADDRESS/LENGTH [GATEWAY]].
func Parse(args []string) (From, error) {
	var f From
	if len(args) == 0 || len(args) > 3 {
		return f, errors.New("want URL [ADDRESS/LENGTH [GATEWAY]]")
	}
	u, err := url.Parse(args[0])
	switch {
	case err != nil:
		return f, fmt.Errorf("URL: %w", err)
	case u.Scheme != "http":
		return f, fmt.Errorf("URL %q: only http is fetched here; the update's signature is what counts", args[0])
	case u.User != nil:
		return f, errors.New("URL: a name and a password have no use here")
	}
	host, err := netip.ParseAddr(u.Hostname())
	if err != nil || host.Zone() != "" || host.IsUnspecified() || host.IsMulticast() {
		return f, fmt.Errorf("URL %q: the host has to be an address, as http://192.0.2.10/update.bundle; names are not looked up here", args[0])
	}
	f.URL = u
	if len(args) > 1 {
		if f.Address, err = netip.ParsePrefix(args[1]); err != nil || !f.Address.Addr().IsValid() || f.Address.Addr().IsUnspecified() {
			return f, fmt.Errorf("address %q is not ADDRESS/LENGTH, as 192.0.2.5/24", args[1])
		}
		if f.Address.Addr().Is4() != host.Is4() {
			return f, fmt.Errorf("address %s and host %s are of different families", f.Address, host)
		}
	} else if host.Is6() {
		return f, errors.New("DHCP is for IPv4 here; give the address to use, as 2001:db8::5/64")
	}
	if len(args) > 2 {
		if f.Gateway, err = netip.ParseAddr(args[2]); err != nil || !f.Address.Contains(f.Gateway) {
			return f, fmt.Errorf("gateway %q is no address in the network of %s", args[2], f.Address)
		}
	}
	return f, nil
}
