package migration

import (
	"cmp"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/internal/enrol"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/template"
)

// Config is the section plugins.migration.
type Config struct {
	Hosts     []HostConfig     `json:"hosts,omitempty" jsonschema:"description=hypervisor hosts whose VMs are followed and moved"`
	Gateway   bool             `json:"gateway,omitempty" jsonschema:"description=hand the volumes of this box's own gateway over when a VM moves"`
	AtOnce    int              `json:"at_once,omitempty" config:"min=0,max=64" jsonschema:"description=moves under way at once (default 2)"`
	Goal      model.Goal       `json:"goal,omitzero" jsonschema:"description=what a move may cost where neither command nor template says"`
	VMs       []VMConfig       `json:"vms,omitempty" config:"max=4096" jsonschema:"description=what templates may select VMs by"`
	Types     []model.VMType   `json:"types,omitempty" config:"max=256" jsonschema:"description=types of VMs, by name"`
	Templates []model.Template `json:"templates,omitempty" config:"max=256" jsonschema:"description=migrations of many VMs"`
	Schedule  schedule.Config  `json:"schedule,omitzero" jsonschema:"description=links and hosts that moves wait for, and maintenance windows"`
}

// HostConfig is one host. Exactly one of vmhost, libvirt and qmp says how it is reached.
type HostConfig struct {
	Name    string `json:"name" config:"required" jsonschema:"description=name of the host in tables and plans, and its identity at gateways"`
	VMHost  string `json:"vmhost,omitempty" jsonschema:"description=HOST:PORT of ratchet vmhost, which keeps bare QEMUs there"`
	Libvirt string `json:"libvirt,omitempty" jsonschema:"description=libvirtd: tls:HOST[:PORT] or unix:/path"`
	Plain   bool   `json:"plain,omitempty" jsonschema:"description=memory and disks come to this host without TLS: a goal must allow it"`
	// Those of libvirt.
	TLS      HostTLSConfig     `json:"tls,omitzero" jsonschema:"description=with libvirt, credentials for tls:"`
	Stream   StreamConfig      `json:"stream,omitzero" jsonschema:"description=with libvirt, how memory and disks come to this host"`
	Networks map[string]string `json:"networks,omitempty" config:"max=256" jsonschema:"description=with libvirt, what networks of VMs are on this host: NAME: network:NAME, bridge:NAME or user"`
	// Those of qmp.
	QMP string `json:"qmp,omitempty" jsonschema:"description=QMP monitor of one bare QEMU, which is followed only: tcp:HOST:PORT or unix:/path"`
	VM  string `json:"vm,omitempty" jsonschema:"description=with qmp, name of the VM if QEMU was started without -name; the host's name when empty"`
}

// HostTLSConfig is PEM text, or file:/path of a file with it.
type HostTLSConfig struct {
	CA          string `json:"ca,omitempty" jsonschema:"description=authority of libvirtd's certificate, as PEM text or file:/path"`
	Certificate string `json:"certificate,omitempty" jsonschema:"description=the box's certificate, as PEM text or file:/path"`
	Key         string `json:"key,omitempty" config:"secret" jsonschema:"description=its private key, as PEM text or file:/path"`
	Name        string `json:"name,omitempty" jsonschema:"description=name in libvirtd's certificate; that of the address when empty"`
}

// fields are the parts that may be in files.
func (t HostTLSConfig) fields() map[string]string {
	return map[string]string{"ca": t.CA, "certificate": t.Certificate, "key": t.Key}
}

// StreamConfig is how libvirt's hosts send to each other.
type StreamConfig struct {
	Address string `json:"address,omitempty" jsonschema:"description=address at which other hosts reach this one; its own hostname when empty"`
	Name    string `json:"name,omitempty" jsonschema:"description=name in the certificate that it shows other hosts; address when empty"`
	Listen  string `json:"listen,omitempty" jsonschema:"description=address it listens at; as libvirtd is configured when empty"`
}

// VMConfig gives labels to a VM, wherever it is.
type VMConfig struct {
	Name   string            `json:"name" config:"required" jsonschema:"description=name of the VM"`
	Labels map[string]string `json:"labels,omitempty" config:"max=64" jsonschema:"description=labels that templates select by"`
}

const (
	// maxHosts bounds connections and what one event to core can hold.
	maxHosts = 64
	maxName  = 64
)

// wantState is the directory of the journal.
const wantState = "state"

// wantPEM is a file with one of the credentials of a host.
func wantPEM(host, field string) string { return "hosts/" + host + "/tls." + field }

// moves says whether VMs can be moved to or from the host, rather than only seen.
func (h HostConfig) moves() bool { return h.VMHost != "" || h.Libvirt != "" }

// address is how the host is reached, for people.
func (h HostConfig) address() string {
	switch {
	case h.VMHost != "":
		return "vmhost:" + h.VMHost
	case h.Libvirt != "":
		return "libvirt:" + h.Libvirt
	}
	return h.QMP
}

// parse reads the section and lists everything that is wrong with it, and what it wants of core.
func parse(section plugin.Section) (Config, plugin.Validation) {
	var c Config
	v := plugin.Decode(section, &c)
	c.checkHosts(&v)
	c.checkNames(&v)
	c.checkSchedule(v.Errorf)
	if c.movable() {
		v.Wants = append(v.Wants, &pluginpb.Want{Name: wantState, Kind: pluginpb.Kind_DIRECTORY, Selector: "state", Path: "hosts"})
	}
	for _, h := range c.Hosts {
		for field, value := range h.TLS.fields() {
			if strings.HasPrefix(value, "file:") {
				v.Wants = append(v.Wants, &pluginpb.Want{Name: wantPEM(h.Name, field), Kind: pluginpb.Kind_FILE, Selector: value, Path: "hosts"})
			}
		}
	}
	if c.Gateway {
		for name, method := range map[string]string{wantHandover: methodHandover, wantVolumes: methodVolumes} {
			v.Wants = append(v.Wants, &pluginpb.Want{Name: name, Kind: pluginpb.Kind_METHOD, Selector: gatewayPlugin + "/" + method, Path: "gateway"})
		}
	}
	return c, v
}

func (c Config) atOnce() int { return cmp.Or(c.AtOnce, defaultAtOnce) }

// needsProcess says whether only another process can go from was to c: what it wants of core decides that, and what is
// opened once.
func (c Config) needsProcess(was Config) bool {
	return c.movable() != was.movable() || c.Gateway != was.Gateway || c.atOnce() != was.atOnce() ||
		!reflect.DeepEqual(c.Schedule, was.Schedule)
}

// movable says whether there is anything to move VMs between. Without it the plugin follows and keeps nothing.
func (c Config) movable() bool {
	for _, h := range c.Hosts {
		if h.moves() {
			return true
		}
	}
	return false
}

func (c Config) checkHosts(v *plugin.Validation) {
	if len(c.Hosts) > maxHosts {
		v.Errorf("hosts", "%d hosts: at most %d", len(c.Hosts), maxHosts)
	}
	names, addresses := map[string]string{}, map[string]string{}
	for i, h := range c.Hosts {
		at := fmt.Sprintf("hosts[%d]", i)
		taken(v, names, h.Name, at+".name", "name")
		if len(h.Name) > maxName {
			v.Errorf(at+".name", "name is longer than %d bytes", maxName)
		}
		h.check(v, at, addresses)
	}
}

// check looks at how the host is reached. Two clients cannot share a monitor, the second would wait for the first for
// ever; and one host under two names would be the target of its own VMs.
func (h HostConfig) check(v *plugin.Validation, at string, addresses map[string]string) {
	ways := 0
	for field, address := range map[string]string{"qmp": h.QMP, "vmhost": h.VMHost, "libvirt": h.Libvirt} {
		if address == "" {
			continue
		}
		ways++
		taken(v, addresses, address, at+"."+field, "address")
	}
	if ways != 1 {
		v.Errorf(at, "give one of vmhost, libvirt and qmp, not %d", ways)
	}
	switch {
	case h.QMP != "":
		if _, _, err := qmp.ParseAddress(h.QMP); err != nil {
			v.Errorf(at+".qmp", "%v", err)
		}
	case h.VMHost != "":
		if err := hostPort(h.VMHost); err != nil {
			v.Errorf(at+".vmhost", "%v", err)
		}
		if err := enrol.CheckName(h.Name); err != nil && h.Name != "" {
			v.Errorf(at+".name", "%v", err) // it stands in the host's certificate
		}
	case h.Libvirt != "":
		h.checkLibvirt(v, at)
	}
	if h.VM != "" && h.QMP == "" {
		v.Errorf(at+".vm", "only a host reached by qmp has one VM: take this out")
	}
	if h.Libvirt == "" && (h.TLS != (HostTLSConfig{}) || h.Stream != (StreamConfig{}) || len(h.Networks) > 0) {
		v.Errorf(at, "tls, stream and networks are of hosts reached by libvirt: take them out")
	}
}

func (h HostConfig) checkLibvirt(v *plugin.Validation, at string) {
	c := h.libvirt(nil)
	for field, value := range h.TLS.fields() {
		switch {
		case value == "" && strings.HasPrefix(h.Libvirt, "tls:"):
			v.Errorf(at+".tls."+field, "libvirtd lets nobody in over TLS without it")
			fallthrough
		case strings.HasPrefix(value, "file:"):
			c.CA, c.Cert, c.Key = nil, nil, nil // what is in files is read at the start
		}
	}
	if err := c.Check(); err != nil {
		v.Errorf(at+".libvirt", "%v", err)
	}
}

func (c Config) checkNames(v *plugin.Validation) {
	vms, types, templates := map[string]string{}, map[string]string{}, map[string]string{}
	for i, vm := range c.VMs {
		taken(v, vms, vm.Name, fmt.Sprintf("vms[%d].name", i), "name")
	}
	for i, t := range c.Types {
		at := fmt.Sprintf("types[%d].name", i)
		if t.Name == "" {
			v.Errorf(at, "a type needs a name")
		}
		taken(v, types, t.Name, at, "name")
	}
	for i, t := range c.Templates {
		at := fmt.Sprintf("templates[%d].", i)
		taken(v, templates, t.Name, at+"name", "name")
		template.Check(t, func(path, format string, args ...any) { v.Errorf(at+path, format, args...) })
	}
}

// hostPort checks HOST:PORT without looking anything up.
func hostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: the port is a number from 1 to 65535", s)
	}
	return nil
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
