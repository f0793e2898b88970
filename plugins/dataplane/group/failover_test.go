package group_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/group/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni"
)

const (
	theVNI  = 71
	theMAC  = "02:00:00:00:00:71"
	maxLoss = 200 // datagrams of a stream of 1,000 a second, detection included
)

// TestFailOver: the member of a group is a VNI. Its instance is killed; the VNI is attached to the stand-by, the group
// follows, and a client's stream to the group's address goes on there.
func TestFailOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.attaching(vni.CandidateConfig{Host: "h1", Instance: "a"}, vni.CandidateConfig{Host: "h2", Instance: "b"})
	first, second := w.instance(11, "h1", "a", b), w.instance(12, "h2", "b", b)
	c := w.client(100, b)
	b.create("web", address)
	b.call(api.MethodAdd, api.AddRequest{Group: "web", Member: "the-vni", VNI: theVNI}, nil)
	b.settled()

	// A stream, 1,000 datagrams a second.
	conn, err := c.dial("udp", net.JoinHostPort(address, "9000"))
	check(t, err)
	defer conn.Close()
	var streaming sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	var sent uint64
	streaming.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			sent++
			_, _ = conn.Write(binary.BigEndian.AppendUint64(nil, sent)) // refused while there is no member: counted as lost
			<-tick.C
		}
	})
	defer streaming.Wait()
	defer cancel()
	until(t, "the first instance gets the stream", func() bool { return first.got() > 300 })

	killed := first.last()
	first.kill()
	until(t, "the second instance gets the stream", func() bool { return second.got() > 300 })
	if lost := second.first() - killed; lost > maxLoss {
		t.Errorf("%d datagrams lost between the first instance's last and the second's first, at most %d", lost, maxLoss)
	} else {
		t.Logf("%d of %d datagrams of a 1 kHz stream to the group's address lost", lost, maxLoss)
	}
	cancel()
	streaming.Wait()
}

// TestSameHost: a client on the host of the member's instance reaches it as others do.
func TestSameHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.attaching(vni.CandidateConfig{Host: "h1", Instance: "a"})
	i := w.instance(11, "h1", "a", b)
	c := &client{Namespace: i.host, t: t, name: "c1", pins: bpffs(t), boxes: []*box{b}}
	c.start()
	b.create("web", address)
	b.call(api.MethodAdd, api.AddRequest{Group: "web", Member: "the-vni", VNI: theVNI}, nil)
	b.settled()
	conn, err := c.dial("udp", net.JoinHostPort(address, "9000"))
	check(t, err)
	defer conn.Close()
	until(t, "the instance gets a datagram", func() bool {
		_, _ = conn.Write(make([]byte, 8)) // refused as long as nothing is confirmed
		return i.got() > 0
	})
}

// attaching is a box that also attaches a VNI to one of the candidates.
func (w *world) attaching(candidates ...vni.CandidateConfig) *box {
	b := w.stopped(1, 2*time.Second)
	vnis := vni.New(vni.Options{State: prefixed{b.state}, Control: b.Server(), Log: logger(w.t), Moved: func(ctx context.Context, l vni.Location) error {
		if !l.Up {
			_, err := b.part.SetDown(ctx, l.Interface.ID, true)
			return err
		}
		_, err := b.part.Moved(ctx, l.Interface.ID, group.Location{Underlay: l.Underlay, MAC: l.Interface.MAC, Epoch: overlay.Wire(l.Epoch)})
		return err
	}})
	var v plugin.Validation
	d := vni.Parse("vnis", vni.Config{Interfaces: []vni.InterfaceConfig{{
		ID: theVNI, MAC: theMAC, Addresses: []string{address},
		Candidates: candidates,
	}}}, &v)
	check(w.t, v.Err())
	check(w.t, vnis.Start(w.t.Context(), d))
	w.t.Cleanup(func() { vnis.Stop(context.Background()) })
	b.start()
	return b
}

// prefixed keeps a part's keys apart, as the plugin does.
type prefixed struct {
	vni.State
}

func (p prefixed) Get(ctx context.Context, key string) ([]byte, error) {
	return p.State.Get(ctx, "vnis/"+key)
}

func (p prefixed) Put(ctx context.Context, key string, value []byte) error {
	return p.State.Put(ctx, "vnis/"+key, value)
}

func (p prefixed) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := p.State.List(ctx, "vnis/"+prefix)
	for i := range keys {
		keys[i] = keys[i][len("vnis/"):]
	}
	return keys, err
}

// instance is a namespace with an end of the VNI, on a host of its own, and the numbers it got.
type instance struct {
	*nettest.Namespace
	host *nettest.Namespace
	conn net.PacketConn
	mu   sync.Mutex
	seen []uint64
}

func (w *world) instance(last int, name, instanceName string, b *box) *instance {
	t := w.t
	host := w.host(last)
	i := &instance{Namespace: nettest.New(t), host: host}
	device := fmt.Sprintf("v%d-%s", theVNI, instanceName)
	nettest.Veth(t, nettest.End{On: host, Name: device}, nettest.End{On: i.Namespace, Name: "eth0", MAC: theMAC, Addresses: []string{address + "/24"}})
	i.conn = i.ListenPacket("udp", address+":9000")
	go i.read()

	client := b.Client(name, control.ClientOptions{
		Dial: func(_ context.Context, network, at string) (conn net.Conn, err error) {
			host.Run(func() { conn, err = net.DialTimeout(network, at, time.Second) })
			return conn, err
		},
		ListenPacket: func(network string) (p net.PacketConn, err error) {
			host.Run(func() { p, err = net.ListenPacket(network, ":0") })
			return p, err
		},
	})
	a, err := vni.NewAgent(vni.AgentOptions{Log: logger(t), Clients: []*control.Client{client}, Pins: bpffs(t), Config: vni.AgentConfig{
		Underlay: netip.AddrFrom4([4]byte{192, 0, 2, byte(last)}).String(),
		Ports:    []vni.PortConfig{{VNI: theVNI, Instance: instanceName, Kind: "veth", Device: device}},
	}})
	check(t, err)
	b.Run(client)
	host.Go(func(ctx context.Context) {
		if err := a.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("agent of %s: %v", name, err)
		}
	})
	return i
}

func (i *instance) read() {
	b := make([]byte, 64)
	for {
		n, _, err := i.conn.ReadFrom(b)
		if err != nil {
			return
		}
		if n == 8 {
			i.mu.Lock()
			i.seen = append(i.seen, binary.BigEndian.Uint64(b))
			i.mu.Unlock()
		}
	}
}

// kill ends the instance as the end of its container would: its interface goes.
func (i *instance) kill() { i.IP("link delete eth0") }

func (i *instance) got() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.seen)
}

func (i *instance) first() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.seen[0]
}

func (i *instance) last() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.seen[len(i.seen)-1]
}
