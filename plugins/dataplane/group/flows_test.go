package group

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

var changes = flag.Int("changes", 20, "changes of membership of TestFlows")

// TestFlows changes a group at random – members come, go, drain, go down, move, change weight, and the process that
// programs it ends and another takes over – and holds every flow against one rule: it stays while its member may be
// used, and no packet goes to a member that may not.
func TestFlows(t *testing.T) {
	const flows, slots = 400, 40
	dir := filepath.Join(t.TempDir(), "bpf")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs (tests of the dataplane need root): %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	pins, err := bpf.OpenPins(dir, "group", layout)
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, DatapathOptions{Pins: pins, Flows: 2 * flows})

	r := rand.New(rand.NewPCG(*seed, 3))
	s := NewStore()
	s.Commit(s.Promote(1))
	commit := func(c Change, err error) {
		if err == nil && c.Version != (Version{}) {
			s.Commit(c)
		}
	}
	place := func() Location {
		return Location{Underlay: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + r.IntN(200))}), MAC: [6]byte{2}}
	}
	name := func() string { return members(slots)[r.IntN(slots)].Name }
	add := func() {
		i := r.IntN(slots)
		commit(s.Add("web", Member{Name: members(slots)[i].Name, VNI: uint32(1000 + i), Weight: uint16(1 + r.IntN(9)), Location: place()}))
	}
	commit(s.Create("web", []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("2001:db8:9::1")}, Closed))
	for range slots {
		add()
	}

	// bound is what a flow is at: a VNI and its generation.
	type bound struct {
		vni        int
		generation uint32
	}
	at := make([]bound, flows)
	packet := func(i int, flags byte) []byte {
		if i%2 == 0 {
			return tcp("10.9.0.1", uint16(i), flags)
		}
		return tcp("2001:db8:9::1", uint16(i), flags)
	}
	tried, lost := 0, 0
	for change := range *changes {
		switch r.IntN(8) {
		case 0, 1:
			add()
		case 2:
			commit(s.Remove("web", name()))
		case 3:
			commit(s.Drain("web", name(), r.IntN(3) > 0))
		case 4:
			commit(s.Moved(uint32(1000+r.IntN(slots)), place()))
		case 5:
			commit(s.SetDown(uint32(1000+r.IntN(slots)), r.IntN(3) == 0))
		case 6: // everything at once, between two looks of the client
			for range 10 {
				commit(s.SetDown(uint32(1000+r.IntN(slots)), r.IntN(2) == 0))
				commit(s.Drain("web", name(), false))
				add()
			}
		case 7:
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d = open(t, DatapathOptions{Pins: pins})
		}
		g := s.Groups()[0]
		set(t, d, g)
		usable := map[int]Member{}
		serving := 0
		for _, m := range g.Members {
			if m.State != Down {
				usable[int(m.VNI)] = m
			}
			if m.State == Serving {
				serving++
			}
		}
		if serving == 0 {
			commit(s.Add("web", Member{Name: "last", VNI: 999, Location: place()}))
			continue
		}
		for i := range at {
			flags := byte(ack)
			if change == 0 {
				flags = syn
			}
			tried++
			vni := 1000 + to(t, d, packet(i, flags))
			m, ok := usable[vni]
			was, stays := usable[at[i].vni]
			stays = stays && was.Generation == at[i].generation
			switch {
			case !ok:
				lost++
				t.Errorf("change %d: flow %d goes to vni %d, which may not be used", change, i, vni)
			case stays && vni != at[i].vni:
				lost++
				t.Errorf("change %d: flow %d left vni %d for %d", change, i, at[i].vni, vni)
			case !stays && m.State != Serving:
				lost++
				t.Errorf("change %d: flow %d was given to vni %d, which is %s", change, i, vni, m.State)
			}
			at[i] = bound{vni, m.Generation}
			if lost > 10 {
				t.FailNow()
			}
		}
	}
	t.Logf("soak interface-group.flow %d tried, %d lost", tried, lost)
}
