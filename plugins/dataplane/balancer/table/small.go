package table

import (
	"encoding/binary"
	"io/fs"
	"net/netip"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

var errNotExist = fs.ErrNotExist

func orUnspecified(a netip.Addr, six bool) netip.Addr {
	if a.IsValid() {
		return a
	}
	if six {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// networkOrder is a port as the program stores it.
func networkOrder(p uint16) uint16 {
	return binary.LittleEndian.Uint16(binary.BigEndian.AppendUint16(nil, p))
}

// graceClock numbers the moments at which memory was taken out of use, and knows up to which of them a grace
// period has passed. One grace period serves all that were left before it.
type graceClock struct {
	now, passed uint64
}

// leave is called when programs can no longer find some memory; keep what it returns.
func (g *graceClock) leave() uint64 {
	g.now++
	return g.now
}

// await returns when nobody reads in memory that was left at that moment.
func (g *graceClock) await(left uint64) error {
	if left <= g.passed {
		return nil
	}
	now := g.now
	if err := bpf.Grace(); err != nil {
		return err
	}
	g.passed = now
	return nil
}
