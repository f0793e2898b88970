package table

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

// bpffs mounts one for the test.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs (tests of the dataplane need root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// TestTakeOver: a process ends, another takes the table over. Ids, rings, credit, counters and flows are what they were.
func TestTakeOver(t *testing.T) {
	pins := bpffs(t)
	r := newRig(t, Options{Pins: pins, Flows: 4096}, 20)
	if r.TookOver() {
		t.Error("took over what was not there")
	}
	r.setCredit(r.backends[0], Credit{Seq: 7, Limit: 5, Accepted: 3, TTL: 3600 * second})
	c := newCrowd(t, r, 3000)
	before, state := r.Counters(), r.CreditOf(r.backends[0])
	r.must(r.Close())

	// Other sizes are asked for; what is there stays. The VIPs come in another order and one is new.
	next := &rig{TB: t, Table: open(t, Options{Pins: pins, Flows: 1 << 17, Backends: 7})}
	if !next.TookOver() {
		t.Error("made new tables beside the pinned ones")
	}
	c.rig = next
	if n := c.moved(1); n != 0 {
		t.Errorf("%d flows moved before anybody configured anything", n)
	}
	next.setVIPs(VIP{Address: vip6, Protocol: TCP, First: 80, Last: 80}, VIP{Address: vip4, Protocol: Any, First: 0, Last: 65535}, VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80})
	if next.vips[2] != r.vips[0] || next.vips[0] != r.vips[1] {
		t.Errorf("VIPs had ids %v and have %v now", r.vips, next.vips)
	}
	list := backends(21)
	next.setBackends(append([]Backend{list[20]}, list[:20]...)...)
	if got := next.backends[1:]; fmt.Sprint(got) != fmt.Sprint(r.backends) {
		t.Errorf("backends had ids %v and have %v now", r.backends, got)
	}
	if got := next.CreditOf(r.backends[0]); got.Seq != 7 || got.Dispatched != state.Dispatched || got.Left != state.Left {
		t.Errorf("credit was %+v and is %+v now", state, got)
	}
	if got := next.SetCredit(r.backends[0], Credit{Seq: 7, Limit: 99, TTL: second}); !errors.Is(got, ErrStale) {
		t.Errorf("an old report was accepted after the restart: %v", got)
	}
	if n := c.moved(1); n != 0 {
		t.Errorf("%d flows moved", n)
	}
	next.setRing(next.vips[2], spread(next.backends[:1], 128))
	if n := c.moved(1); n != 0 {
		t.Errorf("%d flows moved after a new ring", n)
	}
	after := next.Counters()
	if after.VIPs[0].NewFlows+after.VIPs[1].NewFlows+after.VIPs[2].NewFlows != before.VIPs[0].NewFlows+before.VIPs[1].NewFlows {
		t.Errorf("counters began anew: %+v, then %+v", before.VIPs, after.VIPs)
	}
}

// TestKilled: the process that writes rings, VIPs and credit is killed in the middle of it, several times. Its
// successor finds a table in which no flow has moved and which it can go on with.
func TestKilled(t *testing.T) {
	pins := bpffs(t)
	r := newRig(t, Options{Pins: pins, Flows: 1 << 12}, 20)
	c := newCrowd(t, r, 2000)
	r.must(r.Close())
	for round := range 4 {
		writer := exec.Command(os.Args[0], "-test.run=^TestHelperWriter$", "-test.v")
		writer.Env = append(os.Environ(), "TABLE_WRITER="+pins)
		out, err := writer.StdoutPipe()
		r.must(err)
		r.must(writer.Start())
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.Contains(lines.Text(), "writing") {
		}
		// It has written something by now and is at some point of writing more.
		for range round {
			lines.Scan()
		}
		r.must(writer.Process.Kill())
		_ = writer.Wait() // killed
		next := &rig{TB: t, Table: open(t, Options{Pins: pins})}
		c.rig = next
		if n := c.moved(1); n != 0 {
			t.Fatalf("round %d: %d flows moved", round, n)
		}
		next.setVIPs(VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80})
		next.setRing(next.vips[0], []BackendID{1, 2, 3})
		next.must(next.Close())
	}
}

// TestHelperWriter is the process that TestKilled kills.
func TestHelperWriter(t *testing.T) {
	pins := os.Getenv("TABLE_WRITER")
	if pins == "" {
		return
	}
	r := &rig{TB: t, Table: open(t, Options{Pins: pins})}
	fmt.Println("writing")
	for i := 0; ; i++ {
		vips := []VIP{{Address: vip4, Protocol: TCP, First: 80, Last: 80}}
		for j := range i % 50 {
			vips = append(vips, VIP{Address: netip.AddrFrom4([4]byte{192, 0, 3, byte(j)}), Protocol: UDP, First: uint16(i), Last: uint16(i) + 9})
		}
		r.setVIPs(vips...)
		r.setBackends(backends(20)...)
		r.setRing(r.vips[0], spread(r.backends, 1000+i%7*100))
		r.setCredit(r.backends[i%20], Credit{Unlimited: true})
		fmt.Println(i)
	}
}

// TestLinkStays: the program on an interface is replaced in place, in the same mode, and goes when the table is removed.
func TestLinkStays(t *testing.T) {
	pins := bpffs(t)
	n := nettest.New(t)
	n.IP("link add v0 type veth peer name v1")
	index := n.Index("v0")
	xdp := func() string { return n.Exec("ip", "-d", "link", "show", "v0") }
	attach := func() (*Table, *bpf.Attachment) {
		tab := open(t, Options{Pins: pins})
		var a *bpf.Attachment
		n.Run(func() {
			var err error
			if a, err = tab.Attach(index); err != nil {
				t.Fatal(err)
			}
		})
		return tab, a
	}
	first, a := attach()
	if a.Mode != bpf.Native {
		t.Errorf("veth has native XDP, attached %s", a.Mode)
	}
	must(t, a.Close())
	must(t, first.Close())
	if !strings.Contains(xdp(), "prog/xdp") {
		t.Fatalf("the program went with its process:\n%s", xdp())
	}
	second, b := attach()
	if b.Mode != bpf.Native {
		t.Errorf("taken over as %s", b.Mode)
	}
	must(t, b.Close())
	must(t, second.Remove())
	// The kernel lets go of a link in the background.
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(xdp(), "prog/xdp"); {
		if time.Now().After(deadline) {
			t.Fatalf("the program is still there after Remove:\n%s", xdp())
		}
	}
}

// TestOtherLayout: tables of another version are neither read nor removed.
func TestOtherLayout(t *testing.T) {
	pins := bpffs(t)
	other := filepath.Join(pins, "lb", "v999")
	must(t, os.MkdirAll(other, 0o700))
	tab := open(t, Options{Pins: pins})
	if tab.TookOver() {
		t.Error("took another layout over")
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

// TestVIPsWhileRead: packets for one VIP come on one CPU while the set of VIPs around it changes on another. Not one
// misses it. D3; the mutant writes the half that is being read.
func TestVIPsWhileRead(t *testing.T) {
	run := func(inPlace bool) int64 {
		var missed atomic.Int64
		r := newRig(t, Options{}, 3)
		r.inPlace = inPlace
		var stop atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			frame := client(1).tcp(packet.ACK, "")
			for !stop.Load() {
				res, err := bpf.TestRun(r.Program(), bpf.Run{Packet: frame})
				if err != nil || res.Verdict != xdpTX {
					missed.Add(1)
				}
			}
		}()
		rounds := 60
		if inPlace {
			rounds = 6000 // until it is noticed: a machine that is busy elsewhere seldom reads and writes at once
		}
		for i := range rounds {
			vips := []VIP{}
			for j := range 500 {
				vips = append(vips, VIP{Address: netip.AddrFrom4([4]byte{192, 1, byte(i + j>>8), byte(j)}), Protocol: TCP, First: 1, Last: 9})
			}
			vips = append(vips, VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80})
			r.setVIPs(vips...)
			if inPlace && missed.Load() > 0 {
				break
			}
		}
		stop.Store(true)
		<-done
		return missed.Load()
	}
	if n := run(false); n != 0 {
		t.Errorf("%d packets missed their VIP", n)
	}
	if run(true) == 0 {
		t.Error("the mutant was not noticed")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAllGiveWay: a table with room for two sets of VIPs, rings and backends takes set after set, each by way of both, without
// a sweep between them, and so does the next process.
func TestAllGiveWay(t *testing.T) {
	const each = 4
	o := Options{Pins: bpffs(t), VIPs: 2 * each, Backends: 2 * each, RingSlots: each * 256}
	var r *rig
	var former []Backend
	set := func(n int) {
		t.Helper()
		list := make([]Backend, each)
		vips := make([]VIP, each)
		for i := range each {
			list[i] = Backend{Address: backendAddress(n<<8 | i), NextHop: hopMAC[:]}
			vips[i] = VIP{Address: vip4, Protocol: TCP, First: uint16(100*n + i), Last: uint16(100*n + i)}
		}
		r.setBackends(append(list[:each:each], former...)...)
		r.setVIPs(vips...)
		for _, v := range r.vips {
			r.setRing(v, spread(r.backends[:each], 256))
		}
		r.setBackends(list...)
		former = list
	}
	for n := range 6 {
		if n%3 == 0 {
			if r != nil {
				r.must(r.Close())
			}
			r, former = &rig{TB: t, Table: open(t, o)}, nil
		}
		set(1 + n)
	}
}
