package vni

import (
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

var aBeat = failover.Beat{
	Incarnation: 0x1122334455667788, Number: 9, Term: 0x0201, Version: 7, Unled: 1500 * time.Millisecond,
	Echo: 12345678 * time.Nanosecond, Underlay: netip.MustParseAddr("10.8.0.1"),
	States: []failover.EntryState{{Healthy: true, Attached: true}, {Healthy: true}, {}, {Attached: true}, {Healthy: true}},
}

var aReply = failover.Reply{Term: 0x0201, Version: 7, Lease: 150 * time.Millisecond, Leads: true, Echo: 99 * time.Second}

// The bytes of version 1. Hosts and boxes are upgraded one by one.
const (
	beatBytes = "01000000" + "1122334455667788" + "0000000000000009" + "0000000000000201" + "00000007" + "000005dc" +
		"0000000000bc614e" + "00000000000000000000ffff0a080001" + "0005" + "8701"
	replyBytes = "01010000" + "00000007" + "0000000000000201" + "000249f0" + "000000170cdc1e00"
)

func TestWire(t *testing.T) {
	beat, reply := appendBeat(nil, aBeat), appendReply(nil, aReply)
	if got := hex.EncodeToString(beat); got != beatBytes {
		t.Errorf("beat is\n%s, want\n%s", got, beatBytes)
	}
	if got := hex.EncodeToString(reply); got != replyBytes {
		t.Errorf("reply is\n%s, want\n%s", got, replyBytes)
	}
	b, err := parseBeat(beat)
	if diff := cmp.Diff(aBeat, b, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
		t.Errorf("beat read back: %v\n%s", err, diff)
	}
	if r, err := parseReply(reply); r != aReply || err != nil {
		t.Errorf("reply read back: %+v, %v", r, err)
	}
	full := appendBeat(nil, failover.Beat{States: make([]failover.EntryState, maxEntries)})
	if len(full) > control.MaxPayload {
		t.Errorf("a beat of %d entries has %d bytes, a datagram takes %d", maxEntries, len(full), control.MaxPayload)
	}
}

// A lease longer than there may be is no lease.
func TestLongLeaseRefused(t *testing.T) {
	r := aReply
	r.Lease = maxLease + time.Millisecond
	if got, err := parseReply(appendReply(nil, r)); err == nil {
		t.Errorf("read %+v", got)
	}
}

func FuzzBeat(f *testing.F) {
	f.Add(appendBeat(nil, aBeat))
	f.Add(appendBeat(nil, failover.Beat{}))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := parseBeat(p)
		if err != nil {
			return
		}
		again, err := parseBeat(appendBeat(nil, b))
		if err != nil || !cmp.Equal(b, again, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()) {
			t.Errorf("%+v is read back as %+v, %v", b, again, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add(appendReply(nil, aReply))
	f.Add(appendReply(nil, failover.Reply{}))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseReply(p)
		if err != nil {
			return
		}
		if again, err := parseReply(appendReply(nil, r)); again != r || err != nil {
			t.Errorf("%+v is read back as %+v, %v", r, again, err)
		}
		if r.Lease > maxLease {
			t.Errorf("a lease of %v", r.Lease)
		}
	})
}
