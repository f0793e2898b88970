package balancer

import (
	"net/netip"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/flowsync"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
)

// A flow that a peer tells of is kept here as long as there: only a TCP connection that is not closing is established.
func TestStatesOfPeersFlows(t *testing.T) {
	d := many(1, 1)
	d.VIPs[0].Key.Protocol = table.Any
	r := newPart(t, Options{}, d).running()
	record := flowsync.Record{
		Client: netip.MustParseAddrPort("198.18.0.1:4000"), Local: netip.AddrPortFrom(d.VIPs[0].Key.Address, 80), Backend: r.vips[0].members[0].hash,
	}
	for _, c := range []struct {
		name     string
		protocol uint8
		ended    bool
		want     [4]int // by FlowState, with those before
	}{
		{"TCP", tcp, false, [4]int{0, 0, 1, 0}},
		{"TCP, closing", tcp, true, [4]int{0, 0, 0, 1}},
		{"UDP", udp, false, [4]int{0, 0, 0, 2}},
		{"UDP again", udp, false, [4]int{0, 0, 0, 2}},
	} {
		record.Protocol, record.Ended = c.protocol, c.ended
		if n, err := r.insert([]flowsync.Record{record}); n != 1 || err != nil {
			t.Fatalf("%s: %d filed, %v", c.name, n, err)
		}
		if got := r.table.Count().ByState; got != c.want {
			t.Errorf("%s: %v flows by state, want %v", c.name, got, c.want)
		}
	}
}
