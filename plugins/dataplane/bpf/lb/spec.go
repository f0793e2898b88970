package lb

import "github.com/cilium/ebpf"

// The records of the maps, as the program sees them.

type (
	Backend        = lbBackend
	BackendCounter = lbBackendCounter
	Captured       = lbCaptured
	Control        = lbControlBlock
	Credit         = lbCredit
	Event          = lbEvent
	FlowLine       = lbFlowLine
	Hosts          = lbHosts
	Range          = lbRange
	Ranges         = lbRanges
	ReasonCounters = lbReasonCounters
	RingChunk      = lbRingChunk
	VIP            = lbVip
	VIPCounter     = lbVipCounter
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
