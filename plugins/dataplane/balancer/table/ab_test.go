package table

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/peers"
	"github.com/ratchetos/ratchet/plugins/internal/packet"
)

func TestAB(t *testing.T) {
	objs := strings.Fields(os.Getenv("OBJS"))
	if len(objs) == 0 {
		return
	}
	frame := packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 1024, Dst: 80, Seq: 1, Flags: packet.ACK}.Segment(packet.IP{Src: client4, Dst: vip4, DF: true}, make([]byte, 15)))
	h, _ := peers.NewHarness(len(frame), 256)
	frame6 := packet.Frame(boxMAC, routerMAC, packet.TCP{Src: 1024, Dst: 80, Seq: 1, Flags: packet.ACK}.Segment(packet.IP{Src: client6, Dst: vip6}, make([]byte, 15)))
	h6, _ := peers.NewHarness(len(frame6), 256)
	var rigs []*rig
	for _, p := range objs {
		r := newRig(t, Options{Flows: 1 << 17, source: func() (*ebpf.CollectionSpec, error) { return ebpf.LoadCollectionSpec("/tmp/lb_" + p + ".o") }}, 100)
		for i := range 256 {
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
		rigs = append(rigs, r)
	}
	res := make([][]time.Duration, len(rigs))
	res6 := make([][]time.Duration, len(rigs))
	for range 15 {
		for i, r := range rigs {
			d, err := h.Run(r.Program(), frame, 100000)
			r.must(err)
			res[i] = append(res[i], d)
			d, err = h6.Run(r.Program(), frame6, 100000)
			r.must(err)
			res6[i] = append(res6[i], d)
		}
	}
	for i := range rigs {
		slices.Sort(res[i])
		slices.Sort(res6[i])
		fmt.Printf("%-12s v4 min %v q1 %v med %v | v6 min %v q1 %v med %v\n", objs[i], res[i][0], res[i][3], res[i][7], res6[i][0], res6[i][3], res6[i][7])
	}
}
