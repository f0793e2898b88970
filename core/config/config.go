package config

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Config is a whole document.
type Config struct {
	Version  int               `json:"version" config:"required,enum=1" jsonschema:"description=version of this format; always 1"`
	Hostname string            `json:"hostname,omitempty" jsonschema:"description=name of the box; also asked for by DHCP"`
	Network  Network           `json:"network"`
	Time     Time              `json:"time"`
	API      API               `json:"api"`
	Update   Update            `json:"update"`
	TPM      string            `json:"tpm" config:"enum=required|none" jsonschema:"description=none is honoured on a workstation only; an image decides for itself"`
	Plugins  map[string]Plugin `json:"plugins,omitempty" jsonschema:"description=features of this box by name; a section enables its plugin"`
}

// SetDefaults fills what a document may leave out.
func (c *Config) SetDefaults() {
	c.Hostname, c.TPM = "ratchet", "required"
	c.Network.Management.SetDefaults()
	c.Time.SetDefaults()
	c.API.SetDefaults()
	c.Update.SetDefaults()
}

// Network is the box's own network; what the dataplane moves is the plugin's.
type Network struct {
	Management Management `json:"management"`
}

// Management is the network over which the box is administered.
type Management struct {
	NIC       string         `json:"nic" jsonschema:"description=auto (the first supported NIC that no plugin wants), mac:… or pci:…"`
	DHCP      bool           `json:"dhcp" jsonschema:"description=ask for an IPv4 address; static addresses are kept beside it"`
	Addresses []netip.Prefix `json:"addresses,omitempty" jsonschema:"description=static addresses with prefix length"`
	Gateway   []netip.Addr   `json:"gateway,omitempty" config:"max=2" jsonschema:"description=default routers; one for each address family"`
	DNS       []netip.Addr   `json:"dns,omitempty" config:"max=3" jsonschema:"description=name servers; they come before those from DHCP"`
	Search    []string       `json:"search,omitempty" config:"max=6" jsonschema:"description=domains to search"`
}

// SetDefaults asks DHCP on the first NIC.
func (m *Management) SetDefaults() { m.NIC, m.DHCP = "auto", true }

// Time is where the clock comes from after the RTC.
type Time struct {
	NTP []string `json:"ntp" config:"max=8" jsonschema:"description=NTP servers; an empty list trusts the RTC"`
}

// SetDefaults uses the public pool.
func (t *Time) SetDefaults() { t.NTP = []string{"pool.ntp.org"} }

// API is the management API on the network. The local socket is always there.
type API struct {
	Listen string `json:"listen" jsonschema:"description=tcp:ADDRESS:PORT, tcp::PORT for all addresses, or none"`
}

// SetDefaults listens on all addresses: callers need a certificate of this box.
func (a *API) SetDefaults() { a.Listen = "tcp::8443" }

// Update is how new images come to the box and prove themselves.
type Update struct {
	Proxy   string          `json:"proxy,omitempty" jsonschema:"description=HTTP proxy for downloads of updates, as http://proxy.example.net:3128"`
	Healthy strict.Duration `json:"healthy" config:"min=1s,max=1h" jsonschema:"description=how long all plugins have to serve before a boot counts as healthy"`
	Trial   strict.Duration `json:"trial" config:"min=30s,max=24h" jsonschema:"description=how long a new image has to become healthy before the box goes back"`
	Settle  strict.Duration `json:"settle" config:"min=1m,max=8760h" jsonschema:"description=how long a new image runs before the other slot gets it too and nothing older runs here any more"`
}

// SetDefaults trusts an image after a day.
func (u *Update) SetDefaults() {
	u.Healthy, u.Trial, u.Settle = strict.Duration(30*time.Second), strict.Duration(5*time.Minute), strict.Duration(24*time.Hour)
}

// Plugin is what core reads of a plugin's section, and the rest, which is the plugin's own.
type Plugin struct {
	Enabled bool            `json:"enabled" jsonschema:"description=false keeps the section without starting the plugin"`
	Grant   Grant           `json:"grant"`
	Section json.RawMessage `json:"-" config:"rest"`
}

// SetDefaults enables a plugin by the presence of its section.
func (p *Plugin) SetDefaults() {
	p.Enabled = true
	p.Grant.SetDefaults()
}

// Grant limits a plugin's process.
type Grant struct {
	Memory strict.Size `json:"memory" config:"min=16MiB" jsonschema:"description=memory limit; the plugin is restarted when it needs more"`
	PIDs   int         `json:"pids" config:"min=16,max=32768" jsonschema:"description=limit of threads and processes"`
}

// SetDefaults gives what the built-in plugins need with room to spare.
func (g *Grant) SetDefaults() { g.Memory, g.PIDs = 256<<20, 512 }
