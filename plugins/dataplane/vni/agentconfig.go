package vni

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
)

// maxPorts bounds the ports of one host.
const maxPorts = 1024

// AgentConfig is the section attachments of a host's agent: the ends of VNIs that its instances have.
type AgentConfig struct {
	Underlay string       `json:"underlay" config:"required" jsonschema:"description=address of this host to which packets for its VNIs are sent"`
	Uplink   string       `json:"uplink,omitempty" jsonschema:"description=with segment: the link to the hosts' common Ethernet"`
	Segment  bool         `json:"segment,omitempty" jsonschema:"description=the VNIs' plain frames go over the uplink too, and a move is announced there"`
	Overlay  string       `json:"overlay,omitempty" jsonschema:"description=name of the overlay's device (default ratchet-vx)"`
	Ports    []PortConfig `json:"ports" config:"required" jsonschema:"description=the ends, plugged in or to be plugged in, of those that stand by too"`
}

// PortConfig is one instance's end of one VNI.
type PortConfig struct {
	VNI      int    `json:"vni" config:"required,min=1,max=16777215" jsonschema:"description=the VNI"`
	Instance string `json:"instance" config:"required" jsonschema:"description=the instance, as the box's candidates name it"`
	Kind     string `json:"kind" config:"required" jsonschema:"enum=veth,enum=tap,enum=macvtap,enum=vf,description=veth for a container, tap or macvtap for a virtual machine, vf for a virtual function (by its representor)"`
	Device   string `json:"device" config:"required" jsonschema:"description=the link on the host"`

	Netns string `json:"netns,omitempty" jsonschema:"description=veth: path of the instance's network namespace; with it a missing device is made"`
	Inner string `json:"inner,omitempty" jsonschema:"description=veth: name of the instance's end (default eth0)"`

	PIDFile string          `json:"pid_file,omitempty" jsonschema:"description=file with the number of the process whose end is the instance's"`
	Probe   string          `json:"probe,omitempty" jsonschema:"enum=arp,enum=none,description=arp asks the instance for its own address, IPv6 by neighbour discovery (default none)"`
	Every   plugin.Duration `json:"every,omitempty" config:"min=10ms,max=10s" jsonschema:"description=between two probes; three without an answer are a failure (default 40ms)"`
	Plain   bool            `json:"plain,omitempty" jsonschema:"description=overlay packets without an epoch are taken, from senders that have none"`
}

// Kinds of ports.
const (
	kindVeth    = "veth"
	kindTap     = "tap"
	kindMacvtap = "macvtap"
	kindVF      = "vf"
)

// Check finds everything that is wrong with the section.
func (c *AgentConfig) Check(at string, errorf func(path, format string, args ...any)) {
	if a, err := netip.ParseAddr(c.Underlay); err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		errorf(at+".underlay", "%q is not an address of this host, as 10.0.0.1", c.Underlay)
	}
	if c.Segment && c.Uplink == "" {
		errorf(at+".uplink", "is needed with segment: the link to the common Ethernet")
	}
	if len(c.Ports) == 0 || len(c.Ports) > maxPorts {
		errorf(at+".ports", "%d ports: 1 to %d", len(c.Ports), maxPorts)
	}
	seen, devices := map[portKey]int{}, map[string]int{}
	for i, p := range c.Ports {
		at := fmt.Sprintf("%s.ports[%d]", at, i)
		k := portKey{uint32(p.VNI), p.Instance}
		if first, twice := seen[k]; twice {
			errorf(at, "VNI %d of %s is already ports[%d]", p.VNI, p.Instance, first)
		}
		if first, twice := devices[p.Device]; twice {
			errorf(at+".device", "%s is already ports[%d]'s", p.Device, first)
		}
		seen[k], devices[p.Device] = i, i
		p.check(at, errorf)
	}
}

func (p *PortConfig) check(at string, errorf func(path, format string, args ...any)) {
	switch p.Kind {
	case kindVeth, kindTap, kindMacvtap, kindVF:
	default:
		errorf(at+".kind", "%q is not one of veth, tap, macvtap, vf", p.Kind)
	}
	if len(p.Device) > 15 || len(p.Inner) > 15 {
		errorf(at+".device", "names of links have at most 15 characters")
	}
	if p.Netns != "" && (p.Kind != kindVeth || !filepath.IsAbs(p.Netns)) {
		errorf(at+".netns", "is the absolute path of a namespace, and only veth ports have one")
	}
	if p.PIDFile != "" && !filepath.IsAbs(p.PIDFile) {
		errorf(at+".pid_file", "%q is not an absolute path", p.PIDFile)
	}
	switch {
	case p.Probe != "" && p.Probe != "none" && p.Probe != "arp":
		errorf(at+".probe", "%q is not one of arp, none", p.Probe)
	case p.Probe == "arp" && p.Kind == kindMacvtap:
		errorf(at+".probe", "what the host sends into a macvtap goes to the wire, not to the instance: use pid_file")
	}
}

type portKey struct {
	vni      uint32
	instance string
}

func (p *PortConfig) key() portKey { return portKey{uint32(p.VNI), p.Instance} }

func (p *PortConfig) every() time.Duration {
	if p.Every == 0 {
		return 40 * time.Millisecond
	}
	return time.Duration(p.Every)
}
