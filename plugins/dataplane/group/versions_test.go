package group

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

// of is version v of a group: only member v%3 serves, at a host and with an epoch that say v. What was in the same half
// before was another member.
func of(v uint64) *Group {
	g := &Group{ID: 1, Name: "web", Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.1")}, Changed: v, Members: members(3)}
	for i := range g.Members {
		m := &g.Members[i]
		m.Generation = uint32(v)
		m.Underlay = netip.AddrFrom4([4]byte{10, byte(i), byte(v >> 8), byte(v)})
		m.Epoch = uint16(v)
		if uint64(i) != v%3 {
			m.State = Down
		}
	}
	return g
}

// whole sends a packet and says whether everything that decided about it was of one version.
func whole(t *testing.T, d *Datapath, sport uint16) bool {
	r, err := bpf.TestRun(d.Program(), bpf.Run{Packet: tcp("10.9.0.1", sport, ack)})
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != actRedirect {
		return false // the ring of one version names a member that only the other one has
	}
	s := parse(t, r.Packet)
	if !s.to.Is4() {
		return false
	}
	at := s.to.As4()
	member, version := int(s.vxlan.VNI)-1000, binary.BigEndian.Uint16(at[2:])
	return int(at[1]) == member && s.vxlan.Epoch == version && member == int(version%3)
}

// TestNoMixedVersions runs packets while another thread changes the membership as fast as it can.
func TestNoMixedVersions(t *testing.T) {
	for name, hasty := range map[string]bool{"": false, "without grace periods the second look at the word holds alone": true} {
		t.Run(name, func(t *testing.T) {
			d := open(t, DatapathOptions{})
			d.hasty = hasty
			set(t, d, of(1))
			var wg sync.WaitGroup
			stop := time.Now().Add(300 * time.Millisecond)
			wg.Go(func() {
				for v := uint64(2); time.Now().Before(stop); v++ {
					if _, err := d.Set(of(v), anyWay); err != nil {
						t.Error(err)
						return
					}
				}
			})
			mixed, packets := 0, 0
			for ; time.Now().Before(stop); packets++ {
				if !whole(t, d, uint16(packets)) {
					mixed++
				}
			}
			wg.Wait()
			// A packet for which the membership changed at each of three looks is dropped, and counted.
			if mixed -= int(outcomes(t, d)["unsettled"]); mixed > 0 {
				t.Errorf("%d of %d packets saw parts of two versions", mixed, packets)
			}
		})
	}
}

// TestHalfWritten sends packets when the next version is half written: they see the old one. A writer that shows it
// before it is complete, the mutant, is found.
func TestHalfWritten(t *testing.T) {
	for _, mutant := range []bool{false, true} {
		d := open(t, DatapathOptions{})
		set(t, d, of(1))
		mixed := 0
		d.early = mutant
		d.midway = func() {
			for sport := range uint16(20) {
				if !whole(t, d, sport) {
					mixed++
				}
			}
		}
		for v := uint64(2); v < 12; v++ {
			set(t, d, of(v))
		}
		if mutant != (mixed > 0) {
			t.Errorf("%d of 200 packets saw parts of two versions, mutant: %t", mixed, mutant)
		}
	}
}
