package capacity

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
)

// Config is the section capacity of the agent's file.
type Config struct {
	Interval   plugin.Duration   `json:"interval,omitempty" config:"min=5ms,max=10s" jsonschema:"description=from one measurement to the next (default 50ms)"`
	Components []ComponentConfig `json:"components" config:"required,min=1,max=64"`
}

// ComponentConfig is one application component of this host.
type ComponentConfig struct {
	Name        string             `json:"name" config:"required" jsonschema:"description=as in the component of the boxes' VIPs"`
	Listen      []string           `json:"listen,omitempty" config:"max=16" jsonschema:"description=TCP sockets whose accept queues count: a port (80) or ADDRESS:PORT"`
	CGroup      *CGroupConfig      `json:"cgroup,omitempty"`
	Application *ApplicationConfig `json:"application,omitempty"`
	Max         uint32             `json:"max,omitempty" jsonschema:"description=never report more than this"`
	Handshake   plugin.Duration    `json:"handshake,omitempty" config:"min=10ms,max=10s" jsonschema:"description=how long a client's handshake takes at most (default 200ms): connections sent to this host earlier are taken to be in a measurement that does not count them"`
}

// CGroupConfig makes room in a control group the limit.
type CGroupConfig struct {
	Path   string      `json:"path" config:"required" jsonschema:"description=directory of a cgroup v2, as /sys/fs/cgroup/web.slice"`
	Memory plugin.Size `json:"memory,omitempty" jsonschema:"description=what a connection costs of memory.max (or memory.high)"`
	Tasks  uint32      `json:"tasks,omitempty" jsonschema:"description=what a connection costs of pids.max"`
}

// ApplicationConfig lets the application say it.
type ApplicationConfig struct {
	Socket string          `json:"socket" config:"required" jsonschema:"description=unix datagram socket that the agent makes; the application writes LIMIT=n and, if it counts what it accepts, ACCEPTED=n, one a line"`
	TTL    plugin.Duration `json:"ttl,omitempty" config:"min=100ms,max=10m" jsonschema:"description=an application that has said nothing for this long is full (default 2s)"`
	Mode   string          `json:"mode,omitempty" jsonschema:"description=of the socket, octal (default 0660)"`
}

const (
	defaultInterval = 50 * time.Millisecond
	defaultTTL      = 2 * time.Second
	defaultMode     = 0o660
)

// Check finds what is wrong with the section, which stands at at.
func (c *Config) Check(at string, errorf func(path, format string, args ...any)) {
	seen := map[string]string{}
	for i, cc := range c.Components {
		path := fmt.Sprintf("%s.components[%d]", at, i)
		if first, twice := seen[cc.Name]; twice && cc.Name != "" {
			errorf(path+".name", "name %q is already used by %s", cc.Name, first)
		}
		seen[cc.Name] = path
		if len(cc.Name) > report.MaxName {
			errorf(path+".name", "name is longer than %d bytes", report.MaxName)
		}
		if len(cc.Listen) == 0 && cc.CGroup == nil && cc.Application == nil && cc.Max == 0 {
			errorf(path, "says nothing about its capacity: give listen, cgroup, application or max")
		}
		for j, s := range cc.Listen {
			if _, err := parseListen(s); err != nil {
				errorf(fmt.Sprintf("%s.listen[%d]", path, j), "%q is not a port or ADDRESS:PORT", s)
			}
		}
		if g := cc.CGroup; g != nil {
			if g.Path != "" && !filepath.IsAbs(g.Path) {
				errorf(path+".cgroup.path", "%q is not an absolute path", g.Path)
			}
			if g.Memory == 0 && g.Tasks == 0 {
				errorf(path+".cgroup", "give what a connection costs: memory, tasks or both")
			}
		}
		if a := cc.Application; a != nil {
			if a.Socket != "" && !filepath.IsAbs(a.Socket) {
				errorf(path+".application.socket", "%q is not an absolute path", a.Socket)
			}
			if _, err := parseMode(a.Mode); err != nil {
				errorf(path+".application.mode", "%q is not an octal mode, as 0660", a.Mode)
			}
		}
	}
}

// parseListen reads 80, 192.0.2.1:80 and [2001:db8::1]:80; a port alone has no valid address.
func parseListen(s string) (netip.AddrPort, error) {
	if port, err := strconv.ParseUint(s, 10, 16); err == nil && port > 0 {
		return netip.AddrPortFrom(netip.Addr{}, uint16(port)), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err == nil && a.Port() == 0 {
		err = fmt.Errorf("port 0")
	}
	return a, err
}

func parseMode(s string) (uint32, error) {
	if s == "" {
		return defaultMode, nil
	}
	m, err := strconv.ParseUint(s, 8, 9)
	return uint32(m), err
}
