package table

import (
	"fmt"
	"github.com/cilium/ebpf"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/peers"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

func TestPerf(t *testing.T) {
	o := Options{Flows: 1 << 17}
	if p := os.Getenv("OBJ"); p != "" {
		o.source = func() (*ebpf.CollectionSpec, error) { return ebpf.LoadCollectionSpec(p) }
	}
	r := newRig(t, o, 100)
	var all []VIP
	var addrs []netip.Addr
	for i := range 998 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, 3 + byte(i>>8), byte(i)}))
		all = append(all, VIP{Address: addrs[i], Protocol: TCP, First: 80, Last: 80})
	}
	all = append(all, VIP{Address: vip4, Protocol: TCP, First: 80, Last: 80}, VIP{Address: vip6, Protocol: TCP, First: 80, Last: 80})
	addrs = append(addrs, vip4)
	r.setVIPs(all...)
	var bs []netip.Addr
	for i := range 100 {
		bs = append(bs, backendAddress(i))
	}
	p, err := peers.Load(addrs, bs)
	r.must(err)
	frame := packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 1024, Dst: 80, Seq: 1, Flags: packet.ACK}.Segment(packet.IP{Src: client4, Dst: vip4, DF: true}, make([]byte, 15)))
	frame6 := packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 1024, Dst: 80, Seq: 1, Flags: packet.ACK}.Segment(packet.IP{Src: client6, Dst: vip6}, make([]byte, 15)))
	for i := range 32768 {
		for _, f := range [][]byte{frame, frame6} {
			g := slices.Clone(f)
			at := 34
			if f[14]>>4 == 6 {
				at = 54
			}
			port := 1024 + i
			g[at], g[at+1] = byte(port>>8), byte(port)
			fl := g[at+13]
			g[at+13] = packet.SYN
			r.send(g)
			g[at+13] = fl
			r.send(g)
		}
	}
	fmt.Println(r.Count())
	for _, n := range []int{1, 256, 32768} {
		h, err := peers.NewHarness(len(frame), n)
		r.must(err)
		h6, err := peers.NewHarness(len(frame6), n)
		r.must(err)
		res := map[string][]time.Duration{}
		for range 9 {
			for _, name := range []string{peers.Floor, peers.Stateless, peers.LRU} {
				d, err := h.Run(p.Programs[name], frame, 200000)
				r.must(err)
				res[name] = append(res[name], d)
			}
			d, err := h.Run(r.Program(), frame, 200000)
			r.must(err)
			res["lb4"] = append(res["lb4"], d)
			d, err = h6.Run(r.Program(), frame6, 200000)
			r.must(err)
			res["lb6"] = append(res["lb6"], d)
		}
		for k := range res {
			slices.Sort(res[k])
		}
		fl := float64(res[peers.Floor][4])
		for _, k := range []string{peers.Floor, peers.Stateless, peers.LRU, "lb4", "lb6"} {
			fmt.Printf("%d flows %s min %v med %v  ratio %.2f\n", n, k, res[k][0], res[k][4], float64(res[k][4])/fl)
		}
	}
}
