package exports

import "net/netip"

// Protocol of an export.
type Protocol string

// The protocols there are.
const (
	ProtocolISCSI Protocol = "iscsi"
	ProtocolNVMe  Protocol = "nvme"
)

// Export is one volume as clients see it, with every default filled in.
type Export struct {
	Protocol Protocol
	Volume   string
	// Name of the target (IQN) or subsystem (NQN).
	Name    string
	Portals []netip.AddrPort
	UUID    UUID
	Clients []string // names that may connect; empty means any
	CHAP    CHAP
}

// Volume is what of a volume matters to its export.
type Volume struct {
	Name  string
	Place Place
}

// List is what the configuration exports, iSCSI first, in its order. What Check has an error about is left out.
func (c Config) List(volumes []Volume) []Export {
	c = c.WithDefaults()
	places := make(map[string]Place, len(volumes))
	for _, v := range volumes {
		places[v.Name] = v.Place
	}
	var out []Export
	add := func(e Export, listen []string, uuid string) {
		place, known := places[e.Volume]
		if !known {
			return
		}
		e.UUID = VolumeUUID(place)
		if own, err := ParseUUID(uuid); err == nil {
			e.UUID = own
		}
		for _, address := range listen {
			if at, err := netip.ParseAddrPort(address); err == nil {
				e.Portals = append(e.Portals, at)
			}
		}
		out = append(out, e)
	}
	for _, e := range c.ISCSI.Exports {
		clients := e.Initiators
		if e.AnyInitiator {
			clients = nil
		}
		add(Export{Protocol: ProtocolISCSI, Volume: e.Volume, Name: c.ISCSI.Base + ":" + e.Volume, Clients: clients, CHAP: e.CHAP}, c.ISCSI.Listen, e.UUID)
	}
	for _, e := range c.NVMe.Exports {
		clients := e.Hosts
		if e.AnyHost {
			clients = nil
		}
		add(Export{Protocol: ProtocolNVMe, Volume: e.Volume, Name: c.NVMe.Base + ":" + e.Volume, Clients: clients}, c.NVMe.Listen, e.UUID)
	}
	return out
}

// Identity is what clients know the disk by.
func (e Export) Identity() string {
	if e.Protocol == ProtocolISCSI {
		return e.UUID.WWN()
	}
	return "uuid." + e.UUID.String()
}
