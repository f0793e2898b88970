package tree

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"

	"github.com/ratchetos/ratchet/plugins/gateway/target/exports"
)

// Backed is an export with the block device that is behind it.
type Backed struct {
	exports.Export
	Device string // as /dev/nbd0
	// Reservations are what LIO had kept of the disk's persistent reservations, from its file.
	Reservations []Reservation
	// Unsure means that they are not known: the export may stay as it is, see Sure.
	Unsure bool
}

// Sure leaves out of list what would have to be made, or made anew, without its reservations being known. While a backstore is
// there LIO has them in memory.
func Sure(list []Backed, have Snapshot) (sure []Backed) {
	ops := Plan(Desired(list), have)
	for _, b := range list {
		made := slices.ContainsFunc(ops, func(o Op) bool { return o.Do == Mkdir && o.Path == Store(b.Export) })
		if !b.Unsure || !made {
			sure = append(sure, b)
		}
	}
	return sure
}

// Desired are the nodes of a set of exports, in the order in which they can be made.
func Desired(list []Backed) []Node {
	b := new(builder)
	var nvme []Backed
	for _, e := range list {
		switch e.Protocol {
		case exports.ProtocolISCSI:
			b.iscsi(e)
		case exports.ProtocolNVMe:
			nvme = append(nvme, e)
		}
	}
	b.nvme(nvme)
	return b.nodes
}

// builder collects nodes; what is shared is made once.
type builder struct {
	nodes []Node
	group string
	seen  map[string]bool
}

func (b *builder) shared(dirs ...string) {
	if b.seen == nil {
		b.seen = map[string]bool{}
	}
	for _, d := range dirs {
		if !b.seen[d] {
			b.seen[d] = true
			b.nodes = append(b.nodes, Node{Kind: Dir, Path: d})
		}
	}
}

func (b *builder) dir(p ...string) string {
	d := path.Join(p...)
	b.nodes = append(b.nodes, Node{Kind: Dir, Path: d, Group: b.group})
	return d
}

func (b *builder) link(to string, p ...string) {
	b.nodes = append(b.nodes, Node{Kind: Link, Path: path.Join(p...), Value: to, Group: b.group})
}

func (b *builder) attr(rule Rule, value string, p ...string) {
	b.nodes = append(b.nodes, Node{Kind: Attr, Path: path.Join(p...), Value: value, Rule: rule, Group: b.group})
}

func (b *builder) secret(value string, p ...string) {
	b.attr(Always, value, p...)
	b.nodes[len(b.nodes)-1].Secret = true
}

const hba = "target/core/iblock_0"

// Store is the directory of an iSCSI export's backstore. While it is there, LIO has the disk's reservations in memory.
func Store(e exports.Export) string { return path.Join(hba, e.Volume) }

// iscsi makes a backstore and a target of its own, with one portal group and the volume as LUN 0.
func (b *builder) iscsi(e Backed) {
	b.shared(hba, "target/iscsi")
	b.group = GroupOf(e.Export)
	store := b.dir(Store(e.Export))
	b.attr(OnMake, "udev_path="+e.Device, store, "control")
	b.attr(Fixed, e.Device, store, "udev_path")
	b.attr(OnMake, "RATCHET", store, "wwn/vendor_id")
	b.attr(OnMake, "volume", store, "wwn/product_id")
	b.attr(Fixed, e.UUID.String(), store, "wwn/vpd_unit_serial")
	b.attr(Always, "1", store, "enable")
	for _, r := range e.Reservations {
		b.attr(OnMake, r.metadata(), store, "pr/res_aptpl_metadata")
	}
	// UNMAP. It is zero until here, so a backstore that the kernel did not take to this point is made anew: the next look
	// would not give it its reservations, and would export it.
	b.attr(Fixed, "1", store, "attrib/emulate_tpu")
	b.attr(Always, "1", store, "attrib/emulate_tpws") // WRITE SAME that unmaps
	// What was unmapped reads as zeroes: the gateway promises that of TRIM.
	b.attr(Always, "1", store, "attrib/unmap_zeroes_data")
	b.attr(Always, "64", store, "attrib/max_unmap_block_desc_count")

	target := b.dir("target/iscsi", e.Name)
	tpg := b.dir(target, "tpgt_1")
	lun := b.dir(tpg, "lun/lun_0")
	b.link(store, lun, e.Volume)
	anyone := flag(len(e.Clients) == 0)
	// Who is logged in stays logged in when these change: a new portal group asks everybody again.
	b.attr(Fixed, flag(e.CHAP.User != ""), tpg, "attrib/authentication")
	b.attr(Fixed, anyone, tpg, "attrib/generate_node_acls")
	b.attr(Fixed, anyone, tpg, "attrib/cache_dynamic_acls")
	b.attr(Always, "0", tpg, "attrib/demo_mode_write_protect")
	if len(e.Clients) == 0 {
		b.chap(e.CHAP, tpg)
	}
	for _, client := range e.Clients {
		acl := b.dir(tpg, "acls", client)
		b.chap(e.CHAP, acl)
		mapped := b.dir(acl, "lun_0")
		b.link(lun, mapped, "lun_0")
	}
	for _, portal := range e.Portals {
		b.dir(tpg, "np", portal.String())
	}
	b.attr(Always, "1", tpg, "enable")
	b.group = ""
}

// none is what LIO takes for "no value": an empty one cannot be written.
const none = "NULL"

// chap writes all four values, so that those that were taken out of the configuration go.
func (b *builder) chap(c exports.CHAP, at string) {
	for _, f := range []struct{ name, value string }{
		{"userid", c.User}, {"password", c.Secret}, {"userid_mutual", c.MutualUser}, {"password_mutual", c.MutualSecret},
	} {
		p := path.Join(at, "auth", f.name)
		if f.value == "" {
			b.attr(Always, none, p)
		} else {
			b.secret(f.value, p)
		}
	}
}

// nvme makes a subsystem for each volume, and a port for each address. A port takes all subsystems of one list of
// addresses, which are the same for all exports.
func (b *builder) nvme(list []Backed) {
	var portals []netip.AddrPort
	for _, e := range list {
		for _, client := range e.Clients {
			b.shared(path.Join("nvmet/hosts", client))
		}
		b.subsystem(e)
		for _, p := range e.Portals {
			if !slices.Contains(portals, p) {
				portals = append(portals, p)
			}
		}
	}
	for i, at := range portals {
		port := path.Join("nvmet/ports", strconv.Itoa(i+1))
		b.group = port
		b.dir(port)
		family := "ipv4"
		if at.Addr().Is6() {
			family = "ipv6"
		}
		b.attr(Fixed, "tcp", port, "addr_trtype")
		b.attr(Fixed, family, port, "addr_adrfam")
		b.attr(Fixed, at.Addr().String(), port, "addr_traddr")
		b.attr(Fixed, fmt.Sprint(at.Port()), port, "addr_trsvcid")
		for _, e := range list {
			if slices.Contains(e.Portals, at) {
				b.link(subsystem(e), port, "subsystems", e.Name)
			}
		}
		b.group = ""
	}
}

func subsystem(e Backed) string { return path.Join("nvmet/subsystems", e.Name) }

func (b *builder) subsystem(e Backed) {
	b.group = GroupOf(e.Export)
	s := b.dir(subsystem(e))
	b.attr(Fixed, e.UUID.Serial(), s, "attr_serial")
	b.attr(Fixed, "Ratchet volume", s, "attr_model")
	b.attr(Fixed, flag(len(e.Clients) == 0), s, "attr_allow_any_host")
	for _, client := range e.Clients {
		b.link(path.Join("nvmet/hosts", client), s, "allowed_hosts", client)
	}
	ns := b.dir(s, "namespaces/1")
	b.attr(Fixed, e.Device, ns, "device_path")
	b.attr(Fixed, e.UUID.String(), ns, "device_uuid")
	b.attr(Fixed, e.UUID.String(), ns, "device_nguid")
	b.attr(Always, "1", ns, "enable")
	b.group = ""
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// Revalidate has nvmet look at the size of a device again.
func Revalidate(b Backed) Op {
	return Op{Do: Write, Path: path.Join(subsystem(b), "namespaces/1/revalidate_size"), Value: "1"}
}
