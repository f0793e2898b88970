package vmhost

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
)

const (
	defaultDir    = "/var/lib/ratchet-vmhost"
	defaultQEMU   = "/usr/bin/qemu-system-x86_64"
	defaultListen = ":7440"
	defaultPorts  = "49152-49407"
	defaultHelper = "/usr/lib/qemu/qemu-bridge-helper"
	maxSocket     = 107 // bytes of a unix socket's path
)

// Config is the agent's file, YAML.
type Config struct {
	Listen   string `json:"listen,omitempty" jsonschema:"description=where the manager connects to: ADDRESS:PORT; :7440 when empty"`
	Identity string `json:"identity" config:"required" jsonschema:"description=the file that ratchetctl migrate host enroll printed for this host"`
	Dir      string `json:"dir,omitempty" jsonschema:"description=records, sockets and logs of VMs; /var/lib/ratchet-vmhost when empty"`
	QEMU     string `json:"qemu,omitempty" jsonschema:"description=the QEMU to start; /usr/bin/qemu-system-x86_64 when empty"`

	Accels []string `json:"accels,omitempty" config:"enum=kvm|tcg" jsonschema:"description=what VMs may be run by; kvm where the host has it and tcg when empty"`

	Move     MoveConfig        `json:"move,omitzero" jsonschema:"description=where memory and disks of VMs arrive"`
	Networks []NetworkConfig   `json:"networks,omitempty" jsonschema:"description=what the networks of VMs are on this host"`
	Disks    []string          `json:"disks,omitempty" jsonschema:"description=directories that local disks of VMs may be in"`
	Images   []string          `json:"images,omitempty" jsonschema:"description=directories that kernels, initrds and firmware of VMs may be in"`
	Tokens   map[string]string `json:"tokens,omitempty" jsonschema:"description=this host's secret at the gateway for each volume: VOLUME: SECRET"`
	// GatewayTLS is read by QEMU, which wants its own names for the files.
	GatewayTLS string      `json:"gateway_tls,omitempty" jsonschema:"description=directory with ca-cert.pem (and client-cert.pem and client-key.pem) for gateways reached over TCP; without TLS when empty"`
	Consoles   bool        `json:"consoles,omitempty" jsonschema:"description=keep what guests print on serial ports in files, which grow without bounds"`
	Limits     LimitConfig `json:"limits,omitzero" jsonschema:"description=what VMs may take of this host"`
}

// MoveConfig is where QEMUs listen.
type MoveConfig struct {
	Address string `json:"address,omitempty" jsonschema:"description=address of this host that other hosts reach; that of listen when empty"`
	Ports   string `json:"ports,omitempty" jsonschema:"description=FIRST-LAST; 49152-49407 when empty"`
}

// NetworkConfig is one network; with neither bridge nor user it is a segment inside each VM.
type NetworkConfig struct {
	Name     string   `json:"name" config:"required" jsonschema:"description=the name that shapes of VMs use; the same on all hosts"`
	Bridge   string   `json:"bridge,omitempty" jsonschema:"description=bridge of this host that cards are plugged into"`
	User     bool     `json:"user,omitempty" jsonschema:"description=QEMU's own network with address translation"`
	Forwards []string `json:"forwards,omitempty" jsonschema:"description=ports of this host that lead into VMs on a user network: tcp:127.0.0.1:2222-:22"`
}

// LimitConfig bounds what VMs take together.
type LimitConfig struct {
	VMs    int         `json:"vms,omitempty" config:"min=0" jsonschema:"description=64 when 0"`
	VCPUs  int         `json:"vcpus,omitempty" config:"min=0" jsonschema:"description=four times the host's CPUs when 0"`
	Memory plugin.Size `json:"memory,omitempty" config:"min=0" jsonschema:"description=nine tenths of the host's when 0"`
}

// Load reads the file and finds everything that is wrong with it.
func Load(path string) (*Config, config.Diagnostics, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read vmhost's configuration: %w", err)
	}
	c := &Config{}
	found := config.Decode(path, text, c, func(errorf func(path, format string, args ...any)) { c.check(errorf) })
	c.defaults()
	return c, found, nil
}

func (c *Config) check(errorf func(path, format string, args ...any)) {
	if c.Listen != "" {
		if _, port, err := net.SplitHostPort(c.Listen); err != nil || port == "" {
			errorf("listen", "%q is not ADDRESS:PORT, as 192.0.2.11:7440", c.Listen)
		}
	}
	for path, value := range map[string]string{"identity": c.Identity, "dir": c.Dir, "qemu": c.QEMU, "gateway_tls": c.GatewayTLS} {
		if value != "" && !filepath.IsAbs(value) {
			errorf(path, "%q is not an absolute path", value)
		}
	}
	for name, list := range map[string][]string{"disks": c.Disks, "images": c.Images} {
		for i, dir := range list {
			if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
				errorf(fmt.Sprintf("%s[%d]", name, i), "%q is not the absolute path of a directory", dir)
			}
		}
	}
	if _, _, err := c.Move.ports(); err != nil {
		errorf("move.ports", "%v", err)
	}
	seen := map[string]int{}
	for i, n := range c.Networks {
		at := fmt.Sprintf("networks[%d]", i)
		if n.Name != "" && !args.Word(n.Name) {
			errorf(at+".name", "%q: letters, digits and any of -_.+ and at most 64 of them", n.Name)
		}
		if first, twice := seen[n.Name]; twice {
			errorf(at+".name", "%s is already networks[%d]", n.Name, first)
		}
		seen[n.Name] = i
		if n.Bridge != "" && n.User {
			errorf(at, "a network is either a bridge or a user network")
		}
		if len(n.Forwards) > 0 && !n.User {
			errorf(at+".forwards", "only a user network has forwards; on a bridge VMs have addresses of their own")
		}
	}
}

// ports are the first and last; check has found what is wrong with them.
func (m MoveConfig) ports() (first, last int, err error) {
	text := m.Ports
	if text == "" {
		text = defaultPorts
	}
	a, b, ok := strings.Cut(text, "-")
	first, err = strconv.Atoi(a)
	if err == nil && ok {
		last, err = strconv.Atoi(b)
	}
	if err != nil || !ok || first < 1 || last < first || last > 65535 {
		return 0, 0, fmt.Errorf("%q is not FIRST-LAST, as %s", text, defaultPorts)
	}
	return first, last, nil
}

// defaults fills what the file leaves out.
func (c *Config) defaults() {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	set(&c.Listen, defaultListen)
	set(&c.Dir, defaultDir)
	set(&c.QEMU, defaultQEMU)
	if host, _, err := net.SplitHostPort(c.Listen); err == nil {
		set(&c.Move.Address, host)
	}
	if len(c.Accels) == 0 {
		c.Accels = []string{"tcg"}
		if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err == nil {
			f.Close()
			c.Accels = []string{"kvm", "tcg"}
		}
	}
	if c.Limits.VMs == 0 {
		c.Limits.VMs = 64
	}
	if c.Limits.VCPUs == 0 {
		c.Limits.VCPUs = 4 * runtime.NumCPU()
	}
	if c.Limits.Memory == 0 {
		c.Limits.Memory = plugin.Size(hostMemory() / 10 * 9)
	}
}

// networks are what the names mean to QEMU.
func (c *Config) networks() map[string]args.Network {
	m := make(map[string]args.Network, len(c.Networks))
	for _, n := range c.Networks {
		switch {
		case n.User:
			m[n.Name] = args.User(n.Forwards...)
		case n.Bridge != "":
			m[n.Name] = args.Network{Bridge: n.Bridge, Helper: defaultHelper}
		default:
			m[n.Name] = args.Network{}
		}
	}
	return m
}

// within tells whether a path is in one of the directories. What a link in it leads to was put there by the host's owner.
func within(path string, dirs []string) bool {
	for _, d := range dirs {
		if rel, err := filepath.Rel(d, path); err == nil && rel != "." && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}
