package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/decap"
)

// DecapConfig is the section decapsulation: this host is a backend of balancers, which send it clients' packets inside
// their own. The VIPs stand on its loopback, and it answers the clients directly.
type DecapConfig struct {
	Links     []string `json:"links" config:"required,min=1,max=64" jsonschema:"description=links on which the balancers' packets arrive"`
	Sources   []string `json:"sources,omitempty" config:"max=64" jsonschema:"description=addresses or prefixes of the balancers; anybody may send when empty"`
	VIPs      []string `json:"vips,omitempty" config:"max=4096" jsonschema:"description=inner addresses that are accepted; any when empty"`
	GUEPort   uint16   `json:"gue_port,omitempty" jsonschema:"description=default 6080"`
	VXLANPort uint16   `json:"vxlan_port,omitempty" jsonschema:"description=default 4789; on a host with groups, attachments or leases that one is theirs, and the balancers' VXLAN is taken on another only"`
}

// overlayPort is VXLAN's own (RFC 7348), which package overlay uses.
const overlayPort = 4789

// lookAgain is how often links are looked up: one that was unplugged comes back as another.
const lookAgain = 2 * time.Second

func (c *DecapConfig) check(at string, overlay bool, errorf func(path, format string, args ...any)) {
	for i, s := range c.Sources {
		if _, err := parsePrefix(s); err != nil {
			errorf(fmt.Sprintf("%s.sources[%d]", at, i), "%q is not an address or prefix", s)
		}
	}
	for i, s := range c.VIPs {
		if _, err := netip.ParseAddr(s); err != nil {
			errorf(fmt.Sprintf("%s.vips[%d]", at, i), "%q is not an address", s)
		}
	}
	if overlay && c.VXLANPort == overlayPort {
		errorf(at+".vxlan_port", "%d is the overlay's on this host: let the balancers use another port, or IPIP or GUE", overlayPort)
	}
}

// parsePrefix takes an address for the prefix that has it alone.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// decapsulation keeps the program on its links.
type decapsulation struct {
	log     *slog.Logger
	links   []string
	program *decap.Program
	on      map[string]*bpf.Attachment // by link; nil for one that is not there, and was missed
}

var _ side = (*decapsulation)(nil)

func newDecapsulation(r resources, c *DecapConfig, overlay bool) (*decapsulation, error) {
	o := decap.Options{Pins: r.pins, GUEPort: c.GUEPort, VXLANPort: c.VXLANPort}
	if overlay && o.VXLANPort == 0 {
		o.VXLANPort = 65535 // not the overlay's, whose packets pass
	}
	for _, s := range c.Sources {
		p, err := parsePrefix(s)
		if err != nil {
			return nil, err
		}
		o.Sources = append(o.Sources, p)
	}
	for _, s := range c.VIPs {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		o.VIPs = append(o.VIPs, a)
	}
	p, err := decap.Open(o)
	if err != nil {
		return nil, err
	}
	d := &decapsulation{log: r.log, links: c.Links, program: p, on: map[string]*bpf.Attachment{}}
	if err := d.attach(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// close lets go of programs and links. What is pinned stays.
func (d *decapsulation) close() {
	for _, a := range d.on {
		if a != nil {
			_ = a.Close()
		}
	}
	d.program.Close()
}

// Run puts the program on links that come back. What is pinned stays when it ends.
func (d *decapsulation) Run(ctx context.Context) error {
	defer d.close()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := d.attach(); err != nil {
				d.log.Warn("put the program on a link; trying again", "err", err)
			}
		}
	}
}

// attach puts the program on every link that does not have it, and takes it off those that a former configuration or an
// unplugged link has left. A link that is not there is no error: it may come.
func (d *decapsulation) attach() error {
	for _, name := range d.links {
		l, err := net.InterfaceByName(name)
		has, seen := d.on[name]
		switch {
		case err != nil:
			if !seen || has != nil {
				d.log.Warn("no such link yet", "link", name)
			}
			if has != nil {
				_ = has.Close()
			}
			d.on[name] = nil
			continue
		case has != nil && has.Ifindex == l.Index:
			continue
		}
		a, err := d.program.Attach(l.Index)
		if err != nil {
			return fmt.Errorf("link %s: %w", name, err)
		}
		if has != nil {
			_ = has.Close()
		}
		d.on[name] = a
		if a.Mode == bpf.Generic {
			d.log.Warn("the NIC's driver has no XDP of its own: the program runs behind it, which costs more", "link", name)
		}
	}
	var keep []*bpf.Attachment
	for _, a := range d.on {
		if a != nil {
			keep = append(keep, a)
		}
	}
	return d.program.KeepOnly(keep...)
}
