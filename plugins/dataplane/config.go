package dataplane

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni"
)

// Config is the section plugins.dataplane.
type Config struct {
	Links  []LinkConfig  `json:"links,omitempty" jsonschema:"description=NICs that this plugin takes into its own network namespace"`
	Agents *AgentsConfig `json:"agents,omitempty" jsonschema:"description=hosts that talk to this box; enrol them with ratchetctl dataplane agent enroll"`

	Balancer *balancer.Config `json:"balancer,omitempty" jsonschema:"description=connections to virtual addresses go to backends with room for them"`
	Groups   *group.Config    `json:"groups,omitempty" jsonschema:"description=this box keeps interface groups; needs agents"`
	VNIs     *vni.Config      `json:"vnis,omitempty" jsonschema:"description=virtual network interfaces that move between instances on hosts; needs agents"`
	Leases   *lease.Config    `json:"leases,omitempty" jsonschema:"description=this box leases producers of services to hosts; needs agents"`
}

// AgentsConfig is how hosts reach the box.
type AgentsConfig struct {
	Listen string `json:"listen" config:"required" jsonschema:"description=address and port for TCP and UDP in the plugin's own network namespace: :7400 or 192.0.2.1:7400"`
}

// desired is a valid section.
type desired struct {
	links  []configured
	agents bool
	// What is nil is not configured.
	balancer *balancer.Desired
	groups   *group.Desired
	vnis     *vni.Desired
	leases   *lease.Desired
}

// shape says what only a new process can change: the NICs, which parts there are, and what is part of the balancer's program.
func (d *desired) shape() string {
	var b strings.Builder
	for _, l := range d.links {
		b.WriteString(l.selector + "\n")
	}
	fmt.Fprintln(&b, "agents", d.agents)
	for _, m := range modules() {
		fmt.Fprintln(&b, m.name, m.wanted(d))
	}
	if p := d.balancer; p != nil {
		fmt.Fprintln(&b, "program", p.Flows, p.Source4, p.Source6, p.MTU)
	}
	return b.String()
}

// wantPins is the name of the Want for the directory in which programs are pinned.
const wantPins = "pins"

// parse turns the section into what is desired and lists everything that is wrong with it.
func parse(section plugin.Section) (*desired, plugin.Validation) {
	var c Config
	v := plugin.Decode(section, &c)
	d := &desired{links: parseLinks(&v, c.Links)}
	if c.Agents != nil {
		d.agents = true
		parseListen(&v, c.Agents.Listen)
	}
	d.balancer = parsePart(&v, "balancer", c.Balancer, balancer.Parse)
	d.groups = parsePart(&v, "groups", c.Groups, group.Parse)
	d.vnis = parsePart(&v, "vnis", c.VNIs, vni.Parse)
	d.leases = parsePart(&v, "leases", c.Leases, lease.Parse)
	if d.balancer != nil {
		checkInterface(&v, c)
		v.Wants = append(v.Wants, &pluginpb.Want{Name: wantPins, Kind: pluginpb.Kind_DIRECTORY, Selector: "bpf", Path: "balancer"})
	}
	for _, m := range modules() {
		if m.hosts && m.wanted(d) && !d.agents {
			v.Errorf(m.name, "%s work through agents on hosts: set plugins.dataplane.agents.listen", m.name)
		}
	}
	return d, v
}

// parsePart lets a part's own package read its section; nil when there is none.
func parsePart[C, D any](v *plugin.Validation, at string, c *C, parse func(string, C, *plugin.Validation) D) *D {
	if c == nil {
		return nil
	}
	d := parse(at, *c, v)
	return &d
}

// checkInterface holds the balancer to the links of this section.
func checkInterface(v *plugin.Validation, c Config) {
	names := make([]string, 0, len(c.Links))
	for _, l := range c.Links {
		if l.Name != "" {
			names = append(names, l.Name)
		}
	}
	if name := c.Balancer.Interface; name != "" && !slices.Contains(names, name) {
		v.Errorf("balancer.interface", "there is no link %q; named links are: %s", name, strings.Join(names, ", "))
	}
}

func parseListen(v *plugin.Validation, listen string) {
	if listen == "" {
		return // reported as missing
	}
	host, port, err := net.SplitHostPort(listen)
	if err == nil && host != "" && net.ParseIP(host) == nil {
		v.Errorf("agents.listen", "%q is not an address; write ADDRESS:PORT or :PORT", host)
		return
	}
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
		v.Errorf("agents.listen", "%q is not ADDRESS:PORT or :PORT, as :7400", listen)
		return
	}
	v.Wants = append(v.Wants, &pluginpb.Want{Name: wantAgents, Kind: pluginpb.Kind_LISTENER, Selector: "tcp:" + listen, Path: "agents.listen"})
}
