package migration

import (
	"fmt"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

// Config is the section plugins.migration.
type Config struct {
	Hosts []HostConfig `json:"hosts,omitempty" jsonschema:"description=hypervisor hosts whose VMs are followed"`
}

// HostConfig is one host.
type HostConfig struct {
	Name string `json:"name" config:"required" jsonschema:"description=name of the host in tables and plans"`
	QMP  string `json:"qmp" config:"required" jsonschema:"description=QMP monitor of a bare QEMU: tcp:HOST:PORT or unix:/path"`
	VM   string `json:"vm,omitempty" jsonschema:"description=name of the VM if QEMU was started without -name; the host's name when empty"`
}

const (
	// maxHosts bounds connections and what one event to core can hold.
	maxHosts = 64
	maxName  = 64
)

// parse turns the section into hosts and lists everything that is wrong with it.
func parse(section plugin.Section) ([]HostConfig, plugin.Validation) {
	var c Config
	v := plugin.Decode(section, &c)
	if len(c.Hosts) > maxHosts {
		v.Errorf("hosts", "%d hosts: at most %d", len(c.Hosts), maxHosts)
		return nil, v
	}
	names, monitors := map[string]string{}, map[string]string{}
	for i, h := range c.Hosts {
		at := fmt.Sprintf("hosts[%d]", i)
		taken(&v, names, h.Name, at+".name", "name")
		// Two clients cannot share a monitor: the second would wait for the first for ever.
		taken(&v, monitors, h.QMP, at+".qmp", "monitor")
		if len(h.Name) > maxName {
			v.Errorf(at+".name", "name is longer than %d bytes", maxName)
		}
		if _, _, err := qmp.ParseAddress(h.QMP); err != nil && h.QMP != "" {
			v.Errorf(at+".qmp", "%v", err)
		}
	}
	return c.Hosts, v
}

func taken(v *plugin.Validation, seen map[string]string, value, path, what string) {
	if value == "" {
		return // reported as missing
	}
	if first, ok := seen[value]; ok {
		v.Errorf(path, "%s %q is already used at %s", what, value, first)
		return
	}
	seen[value] = path
}
