package lb

import "github.com/cilium/ebpf"

// The records of the maps, as the program sees them.
type (
	// Backend is where packets go, and how.
	Backend = lbBackend
	// BackendCounter counts on one CPU.
	BackendCounter = lbBackendCounter
	// Captured is a packet of a capture.
	Captured = lbCaptured
	// Control is the one record that every packet reads.
	Control = lbControlBlock
	// Credit is what new flows a backend may get.
	Credit = lbCredit
	// Event tells of a flow that was established or closes.
	Event = lbEvent
	// FlowLine is eight entries of the flow table.
	FlowLine = lbFlowLine
	// Hosts are eight addresses and where their ports are.
	Hosts = lbHosts
	// Range is ports of an address that belong to a VIP.
	Range = lbRange
	// Ranges are eight of them, in order.
	Ranges = lbRanges
	// ReasonCounters count on one CPU.
	ReasonCounters = lbReasonCounters
	// RingChunk is 32 slots of a ring.
	RingChunk = lbRingChunk
	// VIP is a service.
	VIP = lbVip
	// VIPCounter counts on one CPU.
	VIPCounter = lbVipCounter
)

// Flags of a VIP.
const (
	QUIC        = uint8(lbVipFlagsVIP_QUIC)
	KeepSource  = uint8(lbVipFlagsVIP_KEEP_SOURCE)
	KeepPort    = uint8(lbVipFlagsVIP_KEEP_PORT)
	Reset       = uint8(lbVipFlagsVIP_RESET)
	LastWeights = uint8(lbVipFlagsVIP_LAST_WEIGHTS)
)

// Kinds of events.
const (
	Established = uint8(lbEventKindEVENT_ESTABLISHED)
	Closing     = uint8(lbEventKindEVENT_CLOSING)
)

// Program is the name of the XDP program in Spec.
const Program = lbProgBalance

// ReasonCount is how many reasons there are; the names are in the object's types.
const ReasonCount = int(lbReasonREASON_COUNT)

// Spec parses the embedded object.
func Spec() (*ebpf.CollectionSpec, error) { return loadLb() }

// Reasons between which packets are dropped.
const (
	FirstDrop   = uint16(lbReasonREASON_TRUNCATED)
	LastDrop    = uint16(lbReasonREASON_NO_ROOM)
	FirstTunnel = uint16(lbReasonREASON_BAD_TUNNEL)
	LastTunnel  = uint16(lbReasonREASON_BAD_INNER)
)
