package exports

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin"
)

const (
	// maxName is what RFC 7143 and the NVMe specification allow a name.
	maxName = 223
	// maxBase leaves room for a colon and the longest name of a volume.
	maxBase = maxName - 1 - 48
	// maxList bounds portals and clients of one export.
	maxList = 64
	// Windows refuses CHAP secrets outside of this without IPsec, and so do most others.
	minSecret, maxSecret = 12, 16
	maxUser              = 64
)

// Check adds everything that is wrong with the section at path at.
func (c *Config) Check(v *plugin.Validation, at string, volumes []Volume) {
	k := &check{v: v, volumes: volumes, taken: map[string]string{}, ids: map[UUID]string{}}
	k.listen(at+".iscsi.listen", c.ISCSI.Listen)
	k.listen(at+".nvme.listen", c.NVMe.Listen)
	k.base(at+".iscsi.base", c.ISCSI.Base, "iqn.", "iqn.2026-01.net.example")
	k.base(at+".nvme.base", c.NVMe.Base, "nqn.", "nqn.2026-01.net.example")
	for i, e := range c.ISCSI.Exports {
		at := fmt.Sprintf("%s.iscsi.exports[%d]", at, i)
		k.volume(at, e.Volume, e.UUID)
		k.clients(at+".initiators", e.Initiators, "iqn.", "eui.", "naa.")
		if len(e.Initiators) == 0 && !e.AnyInitiator {
			k.v.Errorf(at+".initiators", "nobody may log in: name the initiators, or say any_initiator: true")
		}
		if len(e.Initiators) > 0 && e.AnyInitiator {
			k.v.Errorf(at+".any_initiator", "initiators are named as well: drop one of the two")
		}
		k.chap(at+".chap", e.CHAP)
	}
	for i, e := range c.NVMe.Exports {
		at := fmt.Sprintf("%s.nvme.exports[%d]", at, i)
		k.volume(at, e.Volume, e.UUID)
		k.clients(at+".hosts", e.Hosts, "nqn.")
		if len(e.Hosts) == 0 && !e.AnyHost {
			k.v.Errorf(at+".hosts", "nobody may connect: name the hosts, or say any_host: true")
		}
		if len(e.Hosts) > 0 && e.AnyHost {
			k.v.Errorf(at+".any_host", "hosts are named as well: drop one of the two")
		}
	}
}

// check is one pass.
type check struct {
	v       *plugin.Validation
	volumes []Volume
	taken   map[string]string // volume → where it is exported
	ids     map[UUID]string   // identity → volume
	ports   []port            // listening addresses
}

// port is an address that is listened on, and where the configuration says so.
type port struct {
	netip.AddrPort
	at string
}

// volume checks that the volume exists and has no other export: two would be two writers that know nothing of each other.
func (k *check) volume(at, name, uuid string) {
	if name == "" {
		return // reported as missing
	}
	i := slices.IndexFunc(k.volumes, func(v Volume) bool { return v.Name == name })
	if i < 0 {
		k.v.Errorf(at+".volume", "there is no volume %q", name)
		return
	}
	if first, twice := k.taken[name]; twice {
		k.v.Errorf(at+".volume", "volume %s is exported at %s already: give it one export", name, first)
		return
	}
	k.taken[name] = at
	id := VolumeUUID(k.volumes[i].Place)
	if uuid != "" {
		own, err := ParseUUID(uuid)
		if err != nil {
			k.v.Errorf(at+".uuid", "%v", err)
			return
		}
		id = own
	}
	if other, twice := k.ids[id]; twice {
		k.v.Errorf(at+".uuid", "volume %s has the UUID of volume %s: clients would take the two for one disk", name, other)
	}
	k.ids[id] = name
}

func (k *check) listen(at string, list []string) {
	if len(list) > maxList {
		k.v.Errorf(at, "%d addresses: at most %d", len(list), maxList)
		return
	}
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		a, err := netip.ParseAddrPort(s)
		switch {
		case err != nil || a.Port() == 0:
			k.v.Errorf(at, "%q: write an address and a port, as 10.0.0.1:3260 or [::]:3260", s)
		case a.Addr().Zone() != "":
			k.v.Errorf(at, "%q: the kernel's targets take no zone", s)
		default:
			k.port(at, a)
		}
	}
}

func (k *check) port(at string, a netip.AddrPort) {
	for _, p := range k.ports {
		switch {
		case p.AddrPort == a:
			k.v.Errorf(at, "%s is listened on at %s already", a, p.at)
		case Overlap(p.AddrPort, a):
			k.v.Errorf(at, "%s and %s at %s are not to be had together: 0.0.0.0 is all addresses of IPv4, [::] of IPv6 and IPv4", a, p.AddrPort, p.at)
		default:
			continue
		}
		return
	}
	k.ports = append(k.ports, port{a, at})
}

// Overlap says whether the kernel lets only one of two addresses be listened on.
func Overlap(a, b netip.AddrPort) bool {
	all := func(x, y netip.Addr) bool { return x.IsUnspecified() && (x.Is6() || y.Is4()) }
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	return a.Port() == b.Port() && (x == y || all(x, y) || all(y, x))
}

func (k *check) base(at, s, prefix, example string) {
	switch {
	case s == "":
	case !strings.HasPrefix(s, prefix) || !validName(s) || s != strings.ToLower(s):
		k.v.Errorf(at, "%q: write it as %s, in lower case and without spaces", s, example)
	case len(s) > maxBase:
		k.v.Errorf(at, "%d characters: at most %d, so that the names of volumes have room behind it", len(s), maxBase)
	}
}

func (k *check) clients(at string, list []string, prefixes ...string) {
	if len(list) > maxList {
		k.v.Errorf(at, "%d names: at most %d", len(list), maxList)
		return
	}
	for i, s := range list {
		is := func(p string) bool { return strings.HasPrefix(s, p) }
		// iSCSI names are compared in lower case (RFC 7143, 4.2.7.1), and the directory of one is made by its letters.
		if !slices.ContainsFunc(prefixes, is) || !validName(s) || prefixes[0] == "iqn." && s != strings.ToLower(s) {
			k.v.Errorf(fmt.Sprintf("%s[%d]", at, i), "%q: write the client's own name, which begins with %s", s, strings.Join(prefixes, " or "))
		}
		if slices.Index(list, s) < i {
			k.v.Errorf(fmt.Sprintf("%s[%d]", at, i), "%s is there twice", s)
		}
	}
}

// chap knows what initiators refuse, so that it is found here and not at the first login.
func (k *check) chap(at string, c CHAP) {
	if c == (CHAP{}) {
		return
	}
	if c.User == "" || c.Secret == "" {
		k.v.Errorf(at, "user and secret belong together: give both")
	}
	if (c.MutualUser == "") != (c.MutualSecret == "") {
		k.v.Errorf(at, "mutual_user and mutual_secret belong together: give both or none")
	}
	for _, f := range []struct{ field, value string }{{"user", c.User}, {"mutual_user", c.MutualUser}} {
		if len(f.value) > maxUser || !printable(f.value) {
			k.v.Errorf(at+"."+f.field, "use up to %d printable characters without spaces", maxUser)
		}
		k.notNull(at+"."+f.field, f.value)
	}
	for _, f := range []struct{ field, value string }{{"secret", c.Secret}, {"mutual_secret", c.MutualSecret}} {
		if f.value != "" && (len(f.value) < minSecret || len(f.value) > maxSecret || !printable(f.value)) {
			k.v.Errorf(at+"."+f.field, "use %d to %d printable characters without spaces: initiators refuse others", minSecret, maxSecret)
		}
		k.notNull(at+"."+f.field, f.value)
	}
	if c.Secret != "" && c.Secret == c.MutualSecret {
		k.v.Errorf(at+".mutual_secret", "it must differ from secret: an initiator could send our own answer back to us")
	}
}

// notNull refuses what LIO takes for the command to forget the value, and with it the login.
func (k *check) notNull(at, s string) {
	if strings.HasPrefix(s, "NULL") {
		k.v.Errorf(at, "it may not begin with NULL, which the kernel takes for no value at all")
	}
}

// validName says whether s can be a name here and of a directory in configfs.
func validName(s string) bool {
	if len(s) > maxName {
		return false
	}
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune(".:-_", c):
		default:
			return false
		}
	}
	return true
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
