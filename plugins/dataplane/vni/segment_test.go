package vni

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/nettest"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/port"
)

// virtualMachine is what is behind a tap: it answers ARP for the VNI's address and counts datagrams to port 9000.
type virtualMachine struct {
	receiver
	file   *os.File
	frozen atomic.Bool
}

func (h *host) virtualMachine(name, device string) *virtualMachine {
	h.w.t.Helper()
	vm := &virtualMachine{receiver: newReceiver(h.name + "/" + name)}
	h.ns.IP("tuntap add dev "+device+" mode tap", "link set "+device+" up")
	h.ns.Run(func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			h.w.t.Fatal(err)
		}
		r, _ := unix.NewIfreq(device)
		r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
			h.w.t.Fatal(err)
		}
		vm.file = os.NewFile(uintptr(fd), "tap")
	})
	done := make(chan struct{})
	go func() { defer close(done); vm.run() }()
	h.w.t.Cleanup(func() { vm.file.Close(); <-done })
	return vm
}

func (vm *virtualMachine) run() {
	b := make([]byte, 2048)
	for {
		n, err := vm.file.Read(b)
		if err != nil {
			return
		}
		f := b[:n]
		switch {
		case vm.frozen.Load() || n < 42:
		case binary.BigEndian.Uint16(f[12:]) == 0x0806 && f[21] == 1 && net.IP(f[38:42]).String() == segmentAddr:
			mac, _ := net.ParseMAC(theMAC)
			answer := append(append(append([]byte(nil), f[6:12]...), mac...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
			answer = append(append(append(answer, mac...), f[38:42]...), f[22:32]...)
			_, _ = vm.file.Write(answer)
		default:
			vm.count(f)
		}
	}
}

// count takes a frame with a numbered datagram.
func (r receiver) count(f []byte) {
	if len(f) < 43 || binary.BigEndian.Uint16(f[12:]) != 0x0800 || f[23] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(f[36:]) != 9000 {
		return
	}
	end := min(42+int(binary.BigEndian.Uint16(f[38:]))-8, len(f))
	if seq, err := strconv.ParseUint(string(f[42:end]), 10, 64); err == nil {
		r.Got(seq, time.Now())
	}
}

// segmentAddr is the VNI's address on the hosts' own Ethernet.
const segmentAddr = "10.8.0.71"

// plainStream sends a numbered datagram to the VNI's address every millisecond, as any host on the segment would.
func (w *world) plainStream() *nettest.Stream {
	w.t.Helper()
	c := w.client.Dial("udp4", segmentAddr+":9000")
	return w.client.Stream(1, func(seq uint64) { _, _ = fmt.Fprint(c, seq) })
}

// TestSegment: a client that knows nothing of overlays and groups reaches the VNI on the hosts' own Ethernet. It is at
// a virtual machine's tap, which freezes; then at a container, whose end the agent plugged in; then at a macvtap.
func TestSegment(t *testing.T) {
	t.Parallel()
	patiently(t, func(t *testing.T) error {
		w := newWorld(t, 2, 1)
		w.segment, w.address = true, segmentAddr
		w.define("h1/vm", "h2/ct", "h2/mv")
		w.serve(0, Config{})
		vm := w.hosts[0].virtualMachine("vm", "tap71")
		w.hosts[0].ports = []PortConfig{{VNI: theVNI, Instance: "vm", Kind: kindTap, Device: "tap71", Probe: "arp"}}
		container := nettest.New(t)
		w.hosts[1].ports = []PortConfig{
			{VNI: theVNI, Instance: "ct", Kind: kindVeth, Device: "v71", Netns: container.Path()},
			{VNI: theVNI, Instance: "mv", Kind: kindMacvtap, Device: "m71"},
		}
		w.hosts[0].run()
		w.await("VNI at h1/vm", upAt("h1/vm"))
		w.hosts[1].run()
		w.eventually("h2/ct and h2/mv standing by", func() bool {
			c := w.status()[0].Candidates
			return c[1].Eligible && c[2].Eligible
		})
		s := w.plainStream()
		vm.until(t, 50)

		// Its carrier stays, its process lives: only the questions are not answered any more.
		ct := receiveIn(t, container, "h2/ct")
		frozen := s.Sent()
		vm.frozen.Store(true)
		w.await("VNI at h2/ct", upAt("h2/ct"))
		ct.until(t, frozen)
		last := s.Sent()
		ct.until(t, last)
		lost := nettest.Lost(frozen, last, vm.Receiver, ct.Receiver)
		t.Logf("%d of a 1 kHz stream lost when the virtual machine froze", lost)

		mv := w.hosts[1].sniff("h2/mv", "m71")
		if err := w.boxes[0].part.move(api.MoveRequest{ID: theVNI, Host: "h2", Instance: "mv"}); err != nil {
			return errors.Join(errDisturbed, err)
		}
		w.await("VNI at h2/mv", upAt("h2/mv"))
		mv.until(t, s.Sent())
		s.Stop()
		if lost > 200 {
			return fmt.Errorf("%w: %d datagrams lost, 200 is the limit", errDisturbed, lost)
		}
		return nil
	})
}

// receiveIn counts datagrams by a socket in a namespace that the test holds.
func receiveIn(t *testing.T, ns *nettest.Namespace, name string) receiver {
	t.Helper()
	c := ns.ListenPacket("udp4", ":9000")
	r := newReceiver(name)
	go func() {
		b := make([]byte, 64)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return // closed when the test ends
			}
			if seq, err := strconv.ParseUint(string(b[:n]), 10, 64); err == nil {
				r.Got(seq, time.Now())
			}
		}
	}()
	return r
}

// sniff counts the frames that a link receives, which for a macvtap are those that whoever opened it would read.
func (h *host) sniff(name, device string) receiver {
	h.w.t.Helper()
	r := newReceiver(name)
	var w *port.Wire
	h.ns.Run(func() {
		var err error
		if w, err = port.OpenWire(h.ns.Index(device), true); err != nil {
			h.w.t.Fatal(err)
		}
	})
	h.w.t.Cleanup(func() { w.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, err := w.Receive(b)
			if err != nil {
				return // closed when the test ends
			}
			r.count(b[:n])
		}
	}()
	return r
}
