package group

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
)

// median of durations, in ns.
func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2])
}

// BenchmarkVisible is how long a change of membership takes to be what packets see: the new half and the word, beside a
// swap in an ARRAY_OF_MAPS of the same ring, which is how it is done without. The grace periods that both owe – ours
// before the next change of the same group, the swap's within it – are told apart: "back-to-back" has ours.
func BenchmarkVisible(b *testing.B) {
	d := open(b, DatapathOptions{})
	inner := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 2 * RingSize, MaxEntries: 1}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner})
	if err != nil {
		b.Fatal(err)
	}
	defer outer.Close()
	rings := make([]*ebpf.Map, 2)
	for i := range rings {
		if rings[i], err = ebpf.NewMap(inner); err != nil {
			b.Fatal(err)
		}
		defer rings[i].Close()
	}
	var ours, swaps, sustained []time.Duration
	for v := uint64(1); b.Loop(); v++ {
		g := of(v)
		if err := d.Settle(); err != nil { // what the change before owes
			b.Fatal(err)
		}
		begin := time.Now()
		set(b, d, g)
		ours = append(ours, time.Since(begin))
		if verdict, out := run(b, d, tcp("10.9.0.1", uint16(v), ack)); verdict != actRedirect || parse(b, out).vxlan.Epoch != uint16(v) {
			b.Fatalf("version %d is not what a packet sees", v)
		}

		begin = time.Now()
		if err := outer.Put(uint32(0), rings[v%2]); err != nil {
			b.Fatal(err)
		}
		swaps = append(swaps, time.Since(begin))

		v++
		begin = time.Now()
		set(b, d, of(v))
		sustained = append(sustained, time.Since(begin))
	}
	b.ReportMetric(median(ours), "ns-change")
	b.ReportMetric(median(swaps), "ns-swap")
	b.ReportMetric(median(ours)/median(swaps), "x-swap")
	b.ReportMetric(median(sustained), "ns-back-to-back")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEffect is from the report that a VNI has moved, on a box, until a host's program sends there and the host has
// said so: the store made durable in memory, the sealed channel, and the program's maps are in it.
func BenchmarkEffect(b *testing.B) {
	box := controltest.Server(b, controltest.Options{})
	part := New(Options{State: &memory{m: map[string][]byte{}}, Control: box.Server()})
	if err := part.Start(b.Context(), Desired{Lease: DefaultLease}); err != nil {
		b.Fatal(err)
	}
	box.Serve()
	client := box.Client("client", control.ClientOptions{})
	a := NewAgent(AgentOptions{Clients: []*control.Client{client}})
	box.Run(client)
	done := make(chan error)
	ctx, cancel := context.WithCancel(b.Context())
	go func() {
		runtime.LockOSThread() // and never unlocked: its thread, in a namespace of its own, ends with it
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = a.Run(ctx)
		}
		done <- err
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	for method, request := range map[string]string{"group.create": `{"name": "web", "addresses": ["10.9.0.1"]}`} {
		if _, err := invoke(part, method, request); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := invoke(part, "group.add", `{"group": "web", "member": "a", "vni": 7, "host": "127.0.0.1"}`); err == nil {
		b.Fatal("a member on the loopback")
	}
	if _, err := invoke(part, "group.add", `{"group": "web", "member": "a", "vni": 7}`); err != nil {
		b.Fatal(err)
	}
	var effect []time.Duration
	for i := byte(1); b.Loop(); i++ {
		if err := bpf.Grace(); err != nil { // the agent waits for the same: changes are measured one by one
			b.Fatal(err)
		}
		begin := time.Now()
		v, err := part.Moved(b.Context(), 7, Location{Underlay: netip.AddrFrom4([4]byte{192, 0, 2, i%250 + 1}), MAC: [6]byte{2}, Epoch: uint16(i)})
		if err != nil {
			b.Fatal(err)
		}
		if err := applied(a, v); err != nil {
			b.Fatal(err)
		}
		effect = append(effect, time.Since(begin))
	}
	slices.Sort(effect)
	b.ReportMetric(float64(effect[len(effect)/2]), "ns-effect")
	b.ReportMetric(float64(effect[len(effect)*99/100]), "ns-effect-p99")
	b.ReportMetric(0, "ns/op")
}

// applied waits until the agent's program has a version.
func applied(a *Agent, v Version) error {
	limit := time.After(10 * time.Second)
	for {
		a.mu.Lock()
		var now Version
		if a.follower != nil {
			now = a.follower.Applied()
		}
		next := a.applied
		a.mu.Unlock()
		if now.Compare(v) >= 0 {
			return nil
		}
		select {
		case <-next:
		case <-limit:
			return fmt.Errorf("the agent stays at %s", now)
		}
	}
}
