package args

import (
	"hash/crc32"
	"maps"
)

// Network is what a name in shapes means on a host. Without Bridge and Uplink it is a segment inside each VM, between its
// own cards.
type Network struct {
	// Bridge is one of the host; QEMU's helper plugs a tap device into it for each card.
	Bridge string
	// Helper is the program that does it.
	Helper string
	// Uplink is a network backend that all cards of a VM share: see User.
	Uplink Object
}

// User is QEMU's own network stack, with address translation, which needs no rights on the host. Forwards are like
// "tcp:127.0.0.1:2222-:22".
func User(forwards ...string) Network {
	uplink := Object{"type": "user"}
	if len(forwards) > 0 {
		list := make([]Object, len(forwards))
		for i, f := range forwards {
			list[i] = Object{"str": f}
		}
		uplink["hostfwd"] = list
	}
	return Network{Uplink: uplink}
}

// hub joins the cards of one VM on one network, so that a card can be swapped for another behind the same uplink.
func hub(network string) uint32 { return crc32.ChecksumIEEE([]byte(network)) & 0x7fffffff }

// UplinkID is the part of a segment that all its cards share.
func UplinkID(network string) string { return "net-" + network }

// Segment is what the first card on a network needs before its Port.
func (w Network) Segment(network string) []Object {
	if w.Uplink == nil {
		return nil
	}
	uplink := maps.Clone(w.Uplink)
	uplink["id"] = UplinkID(network)
	return []Object{uplink, {"type": "hubport", "id": "hub-" + network, "hubid": hub(network), "netdev": UplinkID(network)}}
}

// Port is the backend of one card.
func (w Network) Port(network, nic string) Object {
	if w.Bridge != "" {
		return Object{"type": "tap", "id": PortID(nic), "br": w.Bridge, "helper": w.Helper}
	}
	return Object{"type": "hubport", "id": PortID(nic), "hubid": hub(network)}
}
