package overlay

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// Route says how an address, or a prefix of them, is reached through the overlay.
type Route struct {
	To     netip.Prefix
	Source netip.Addr // what local senders use when they choose none; not valid: the kernel's choice
	MTU    int        // of inner packets: the path's less Overhead; 0: the device's
}

// Route sends To over the device; one that is there is replaced.
func (d *Device) Route(r Route) error {
	return withRoutes(func(c *rtnetlink.Conn) error { return d.route(c, r) })
}

func (d *Device) route(c *rtnetlink.Conn, r Route) error {
	m := r.message(d.Index)
	m.Attributes.Metrics = &rtnetlink.RouteMetrics{MTU: uint32(r.MTU)}
	if r.Source.IsValid() {
		m.Attributes.Src = r.Source.AsSlice()
	}
	if err := c.Route.Replace(m); err != nil {
		return fmt.Errorf("route %s over %s: %w", r.To, d.Name, err)
	}
	return nil
}

// Keep is Route for each, if the kernel has another way or none, and returns what came of each. The kernel takes routes away
// without a word to who made them: when the address that is their source goes, and when the device is down for a moment. There
// may be thousands, and changes wait meanwhile: they share a socket, which takes longer to open than such a question (BenchmarkKeep).
func (d *Device) Keep(all []Route) []error {
	errs := make([]error, len(all))
	err := withRoutes(func(c *rtnetlink.Conn) error {
		for i, r := range all {
			p, err := pathTo(c, r.To.Addr())
			if err != nil || p.Index != d.Index || r.Source.IsValid() && p.Source != r.Source {
				errs[i] = d.route(c, r)
			}
		}
		return nil
	})
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// Unroute takes the route away; one that is not there is no error.
func (d *Device) Unroute(to netip.Prefix) error {
	return withRoutes(func(c *rtnetlink.Conn) error {
		if err := c.Route.Delete(Route{To: to}.message(d.Index)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("delete route %s over %s: %w", to, d.Name, err)
		}
		return nil
	})
}

func (r Route) message(index int) *rtnetlink.RouteMessage {
	return &rtnetlink.RouteMessage{
		Family: family(r.To.Addr()), DstLength: uint8(r.To.Bits()),
		Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST, Scope: unix.RT_SCOPE_LINK,
		Attributes: rtnetlink.RouteAttributes{Dst: r.To.Addr().AsSlice(), OutIface: uint32(index)},
	}
}

// Path is the way to a host.
type Path struct {
	Index  int        // link
	Source netip.Addr // this host's address on the way
}

// PathTo asks the kernel for the way to a host. It changes with the routing table: ask again from time to time.
func PathTo(host netip.Addr) (p Path, err error) {
	err = withRoutes(func(c *rtnetlink.Conn) (err error) {
		p, err = pathTo(c, host.Unmap())
		return err
	})
	return p, err
}

func pathTo(c *rtnetlink.Conn, host netip.Addr) (Path, error) {
	answers, err := c.Route.Get(&rtnetlink.RouteMessage{
		Family: family(host), DstLength: uint8(host.BitLen()), Attributes: rtnetlink.RouteAttributes{Dst: host.AsSlice()},
	})
	switch {
	case err != nil:
		return Path{}, fmt.Errorf("find the way to %s: %w", host, err)
	case len(answers) == 0:
		return Path{}, fmt.Errorf("find the way to %s: %w", host, unix.ENETUNREACH)
	}
	source, ok := netip.AddrFromSlice(answers[0].Attributes.Src)
	if !ok {
		return Path{}, fmt.Errorf("find the way to %s: the kernel names no source address", host)
	}
	return Path{Index: int(answers[0].Attributes.OutIface), Source: source.Unmap()}, nil
}

func withRoutes(f func(*rtnetlink.Conn) error) error {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer c.Close()
	return f(c)
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
