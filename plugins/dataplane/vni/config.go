package vni

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// Intervals are the same on all hosts and boxes: a lease is only as good as everyone's idea of it.
const (
	beatEvery = 50 * time.Millisecond
	// maxLease is the longest attachment lease there is (invariant D4), and the only one.
	maxLease = 150 * time.Millisecond
)

// Bounds of a section.
const (
	maxInterfaces = 4096
	maxCandidates = 16
	maxAddresses  = 16384 // of all: fence_addresses in bpf/fence
)

// Config is the section vnis of a box: which virtual network interfaces there are and who may hold them.
type Config struct {
	ID    int `json:"id,omitempty" config:"min=0,max=7" jsonschema:"description=number of this box among the control planes (needed with peers)"`
	Peers int `json:"peers,omitempty" config:"min=0,max=7" jsonschema:"description=how many other boxes have the same VNIs; the hosts elect one and at least three hosts are needed"`

	Voters []string `json:"voters,omitempty" config:"max=1024" jsonschema:"description=with peers: the hosts that elect the box which decides, the same at all boxes; all enrolled hosts when empty, so name them if others than those with attachments are enrolled"`

	Interfaces []InterfaceConfig `json:"interfaces,omitempty" jsonschema:"description=the virtual network interfaces"`
}

// InterfaceConfig is one VNI.
type InterfaceConfig struct {
	ID         int               `json:"id" config:"required,min=1,max=16777215" jsonschema:"description=its identifier in VXLAN; no group and no lease may have the same"`
	MAC        string            `json:"mac" config:"required" jsonschema:"description=its MAC, which every candidate instance has on its end"`
	Addresses  []string          `json:"addresses,omitempty" jsonschema:"description=its IP addresses, announced when it moves"`
	Candidates []CandidateConfig `json:"candidates" config:"required" jsonschema:"description=the instances that may hold it, the preferred first"`
}

// CandidateConfig is one instance that has an end of the VNI.
type CandidateConfig struct {
	Host     string `json:"host" config:"required" jsonschema:"description=the host by the name it was enrolled with"`
	Instance string `json:"instance" config:"required" jsonschema:"description=the instance by its name in the host's agent file"`
}

// Desired is a valid Config.
type Desired struct {
	Options    failover.Options
	Voters     []string // empty: all enrolled hosts
	Interfaces []failover.Interface
}

// Parse checks the section and reports everything that is wrong with it.
func Parse(at string, c Config, v *plugin.Validation) Desired {
	d := Desired{Options: failover.Options{Beat: beatEvery, Lease: maxLease, Self: uint8(c.ID), Peers: c.Peers}}
	if c.Peers > 0 && c.ID == 0 {
		v.Errorf(at+".id", "is needed with peers: a number that no other control plane has, from 1")
	}
	seen := map[string]int{}
	for i, name := range c.Voters {
		at := fmt.Sprintf("%s.voters[%d]", at, i)
		if first, twice := seen[name]; twice {
			v.Errorf(at, "%s is already voters[%d]", name, first)
		} else if name == "" {
			v.Errorf(at, "is the name of a host, as it was enrolled")
		}
		seen[name] = i
	}
	d.Voters = c.Voters
	if len(c.Interfaces) > maxInterfaces {
		v.Errorf(at+".interfaces", "%d interfaces: at most %d", len(c.Interfaces), maxInterfaces)
		return d
	}
	ids, macs := map[uint32]int{}, map[[6]byte]int{}
	for i, ic := range c.Interfaces {
		at := fmt.Sprintf("%s.interfaces[%d]", at, i)
		f := ic.parse(at, v)
		if first, twice := ids[f.ID]; twice {
			v.Errorf(at+".id", "%d is already interfaces[%d]", f.ID, first)
		}
		if first, twice := macs[f.MAC]; twice && f.MAC != [6]byte{} {
			v.Errorf(at+".mac", "%s is already interfaces[%d]'s", ic.MAC, first)
		}
		ids[f.ID], macs[f.MAC] = i, i
		d.Interfaces = append(d.Interfaces, f)
	}
	d.checkRoom(at+".interfaces", v)
	return d
}

// checkRoom holds the section to what one host can take: if it is too much, its agent carries none of it out.
func (d Desired) checkRoom(at string, v *plugin.Validation) {
	addresses, entries := 0, map[string]int{}
	for _, i := range d.Interfaces {
		addresses += len(i.Addresses)
		for _, c := range i.Candidates {
			entries[c.Host]++
		}
	}
	if addresses > maxAddresses {
		v.Errorf(at, "%d addresses: at most %d", addresses, maxAddresses)
	}
	for _, host := range slices.Sorted(maps.Keys(entries)) {
		if n := entries[host]; n > maxEntries {
			v.Errorf(at, "host %s is a candidate %d times: at most %d", host, n, maxEntries)
		}
	}
}

func (c InterfaceConfig) parse(at string, v *plugin.Validation) failover.Interface {
	f := failover.Interface{ID: uint32(c.ID)}
	if mac, err := net.ParseMAC(c.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		v.Errorf(at+".mac", "%q is not a unicast MAC, as 02:00:00:00:00:07", c.MAC)
	} else {
		f.MAC = [6]byte(mac)
	}
	for k, text := range c.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.IsMulticast() || a.IsUnspecified() {
			v.Errorf(fmt.Sprintf("%s.addresses[%d]", at, k), "%q is not an IP address, as 10.1.0.7", text)
			continue
		}
		f.Addresses = append(f.Addresses, a.Unmap())
	}
	if n := len(c.Candidates); n == 0 || n > maxCandidates {
		v.Errorf(at+".candidates", "%d candidates: 1 to %d", n, maxCandidates)
	}
	seen := map[failover.Candidate]int{}
	for k, cc := range c.Candidates {
		one := failover.Candidate{Host: cc.Host, Instance: cc.Instance}
		if first, twice := seen[one]; twice {
			v.Errorf(fmt.Sprintf("%s.candidates[%d]", at, k), "%s is already candidates[%d]", one, first)
		}
		seen[one] = k
		f.Candidates = append(f.Candidates, one)
	}
	return f
}
