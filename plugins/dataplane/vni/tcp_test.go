package vni

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// TestTCP: a connection from a client with the kernel's own VXLAN, which knows no epoch, to an instance behind the
// fence; its answers are guarded on their way out and routed by the host. Segments are as large as the kernel makes
// them, their checksums left to it.
func TestTCP(t *testing.T) {
	t.Parallel()
	client, host, container := nettest.New(t), nettest.New(t), nettest.New(t)
	nettest.Veth(t, nettest.End{On: client, Name: "eth0", Addresses: []string{"10.8.0.100/24"}},
		nettest.End{On: host, Name: "eth0", Addresses: []string{"10.8.0.1/24"}})
	nettest.Veth(t, nettest.End{On: host, Name: "v71"},
		nettest.End{On: container, Name: "eth0", MAC: theMAC, Addresses: []string{theAddr + "/32"}})
	client.IP(
		fmt.Sprintf("link add vx type vxlan id %d remote 10.8.0.1 dstport 4789 gbp", theVNI),
		"link set vx up", "address add 10.1.0.50/24 dev vx", "neighbour add "+theAddr+" lladdr "+theMAC+" dev vx",
	)
	container.IP(
		"route add 169.254.0.1 dev eth0", "route add default via 169.254.0.1 src "+theAddr,
		"neighbour add 169.254.0.1 lladdr "+host.Link("v71").HardwareAddr.String()+" dev eth0",
	)
	host.Sysctl("net/ipv4/ip_forward", "1")
	host.IP("route add 10.1.0.50 via 10.8.0.100", "route add "+theAddr+" dev v71")

	f := newFence(t)
	host.Run(func() {
		d, err := overlay.Ensure(overlay.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Overlay(d.Index); err != nil {
			t.Fatal(err)
		}
		if err := f.Port(theVNI, host.Index("v71"), false); err != nil {
			t.Fatal(err)
		}
	})
	f.know(t, theVNI)
	if err := f.Attach(theVNI, Holding{Link: host.Index("v71"), Epoch: 1, MAC: vniMAC, How: byPeer, Plain: true}); err != nil {
		t.Fatal(err)
	}
	f.Renew(bpf.BootNow() + uint64(time.Hour))

	l := container.Listen("tcp", theAddr+":80")
	sums := make(chan [32]byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return // closed when the test ends
		}
		defer c.Close()
		h := sha256.New()
		n, _ := io.Copy(h, c)
		fmt.Fprintln(c, n)
		sums <- [32]byte(h.Sum(nil))
	}()
	c := client.Dial("tcp", theAddr+":80").(*net.TCPConn)
	_ = c.SetDeadline(time.Now().Add(wait))
	data := bytes.Repeat([]byte("all of this arrives "), 200_000)
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if string(answer) != fmt.Sprintln(len(data)) || err != nil {
		t.Fatalf("answer %q, %v", answer, err)
	}
	if <-sums != sha256.Sum256(data) {
		t.Error("not what was sent")
	}
	counts, err := f.Counters()
	if err != nil || counts["delivered"] == 0 || counts["sent"] == 0 {
		t.Errorf("not through the fence: %v, %v", counts, err)
	}
	t.Logf("%d bytes in %d packets to the instance, %d from it", len(data), counts["delivered"], counts["sent"])
}
