package dataplane

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
)

// Config is the section plugins.dataplane.
type Config struct {
	Links  []LinkConfig  `json:"links,omitempty" jsonschema:"description=NICs that this plugin takes into its own network namespace"`
	Agents *AgentsConfig `json:"agents,omitempty" jsonschema:"description=hosts that talk to this box; enrol them with ratchetctl dataplane agent enroll"`
	Groups *group.Config `json:"groups,omitempty" jsonschema:"description=this box keeps interface groups; needs agents"`
}

// AgentsConfig is how hosts reach the box.
type AgentsConfig struct {
	Listen string `json:"listen" config:"required" jsonschema:"description=address and port for TCP and UDP in the plugin's own network namespace: :7400 or 192.0.2.1:7400"`
}

// desired is a valid section.
type desired struct {
	links  []configured
	agents bool
	groups *group.Desired
}

// shape says what only a new process can change: the NICs and which parts there are.
func (d *desired) shape() string {
	var b strings.Builder
	for _, l := range d.links {
		b.WriteString(l.selector + "\n")
	}
	fmt.Fprintln(&b, "agents", d.agents)
	for _, m := range modules() {
		fmt.Fprintln(&b, m.name, m.wanted(d))
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
	if c.Groups != nil {
		groups := group.Parse("groups", *c.Groups, &v)
		d.groups = &groups
		needsAgents(&v, d, "groups")
	}
	return d, v
}

// needsAgents is for parts that are nothing without hosts.
func needsAgents(v *plugin.Validation, d *desired, at string) {
	if !d.agents {
		v.Errorf(at, "%s work through agents on hosts: set plugins.dataplane.agents.listen", at)
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
