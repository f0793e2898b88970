package config

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Parse reads a document and finds what is wrong with it without knowing the box or the
// plugins. The name is only used in reports. Config is nil when the text has no shape to go
// on with; otherwise it holds whatever was right, so that Check can go on in the same pass.
func Parse(name string, data []byte) (*Config, *Source, Diagnostics) {
	src := newSource(name, data)
	c := &Config{}
	found, shaped := decode(src, data, c)
	if !shaped {
		return nil, src, found.sorted()
	}
	v := &validator{src: src, found: found}
	v.core(c)
	return c, src, v.found.sorted()
}

// Decode reads a YAML document of another shape than the appliance's, such as a host agent's, into the struct that out
// points to, as strictly and as bounded as Parse does. check, which may be nil, then looks for what is wrong with the
// values and reports it by path.
func Decode(name string, data []byte, out any, check func(errorf func(path, format string, args ...any))) Diagnostics {
	src := newSource(name, data)
	found, shaped := decode(src, data, out)
	if shaped && check != nil {
		v := &validator{src: src, found: found}
		check(v.errorf)
		found = v.found
	}
	return found.sorted()
}

// decode fills out; shaped is false when the text has no shape to go on with.
func decode(src *Source, data []byte, out any) (found Diagnostics, shaped bool) {
	tree, found := readYAML(src, data)
	if tree == nil {
		return found, false
	}
	document, err := json.Marshal(tree)
	if err != nil {
		return append(found, src.at("", Error, "read document: %v", err)), false
	}
	bad := map[string]bool{}
	for _, d := range found {
		bad[d.Path] = true
	}
	for _, issue := range strict.Decode(document, out) {
		// A value that YAML reading refused stands in the tree as null or 0; what strict says
		// about that is no news.
		if !bad[issue.Path] {
			found = append(found, src.issue(issue))
		}
	}
	return found, true
}

// validator collects the findings about core's own sections.
type validator struct {
	src   *Source
	found Diagnostics
}

func (v *validator) errorf(path, format string, args ...any) {
	v.found = append(v.found, v.src.at(path, Error, format, args...))
}

func (v *validator) core(c *Config) {
	if v.src.Has("hostname") && !hostName(c.Hostname) {
		v.errorf("hostname", "%q is not a host name; use letters, digits and dashes, at most 63 in each part", c.Hostname)
	}
	v.management(c.Network.Management)
	for i, s := range c.Time.NTP {
		if _, err := netip.ParseAddr(s); err != nil && !hostName(s) {
			v.errorf(strict.Index("time.ntp", i), "%q is neither a host name nor an IP address", s)
		}
	}
	if c.API.Listen != "none" {
		if _, _, err := splitListen(c.API.Listen); err != nil {
			v.errorf("api.listen", "%v, or none", err)
		}
	}
}

func (v *validator) management(m Management) {
	const at = "network.management"
	if m.NIC != "auto" {
		if err := selectorForm(m.NIC, "nic"); err != nil {
			v.errorf(at+".nic", "%v, or auto", err)
		}
	}
	seen := map[netip.Prefix]bool{}
	for i, p := range m.Addresses {
		path := strict.Index(at+".addresses", i)
		switch {
		case !p.IsValid(): // reported already
		case seen[p]:
			v.errorf(path, "%s is given twice", p)
		case p.Addr().IsMulticast() || p.Addr().IsUnspecified() || p.Addr().IsLoopback():
			v.errorf(path, "%s cannot be the address of a NIC", p.Addr())
		case p.Addr().Is4() && p.Bits() < 31 && p.Masked().Addr() == p.Addr():
			v.errorf(path, "%s is the network itself; write the address of this box in it", p)
		}
		seen[p] = true
	}
	var families [2]bool
	for i, g := range m.Gateway {
		if !g.IsValid() {
			continue
		}
		path := strict.Index(at+".gateway", i)
		family := 0
		if g.Is6() {
			family = 1
		}
		if families[family] {
			v.errorf(path, "a second gateway of one address family; remove one")
		}
		families[family] = true
		if !reachable(g, m.Addresses) && !m.DHCP {
			v.errorf(path, "no address in %s.addresses is on the network of %s", at, g)
		}
	}
	for i, s := range m.Search {
		if !hostName(s) {
			v.errorf(strict.Index(at+".search", i), "%q is not a domain name", s)
		}
	}
}

func reachable(g netip.Addr, on []netip.Prefix) bool {
	if g.IsLinkLocalUnicast() {
		return true
	}
	for _, p := range on {
		if p.IsValid() && p.Masked().Contains(g) {
			return true
		}
	}
	return false
}

// hostName follows RFC 1123.
func hostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}
