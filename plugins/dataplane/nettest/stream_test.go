package nettest

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	BeInstance()
	os.Exit(m.Run())
}

const limit = 20 * time.Second

// An instance gets a stream until it is killed; its namespace goes with it, and all that comes later is lost.
func TestInstance(t *testing.T) {
	host := New(t)
	i := host.Instance("a")
	i.Plug("v0", End{Name: "eth0", MAC: "02:00:00:00:00:01", Addresses: []string{"10.9.0.2/24"}})
	host.IP("address add 10.9.0.1/24 dev v0")
	c := host.Dial("udp4", fmt.Sprintf("10.9.0.2:%d", InstancePort))
	began := time.Now()
	s := host.Stream(1, func(seq uint64) { _, _ = fmt.Fprint(c, seq) })
	i.Await(t, limit, 20, 1<<32)
	if lost := Lost(1, 10, i.Receiver); lost > 0 {
		t.Errorf("%d of 10 datagrams lost", lost)
	}
	i.Kill()
	got := i.Between(1, s.Sent())
	if len(got) < 10 || got[0].Before(began) || got[len(got)-1].After(time.Now()) {
		t.Errorf("%d datagrams from %v to %v", len(got), got[0], got[len(got)-1])
	}
	deadline := time.Now().Add(limit)
	for gone := false; !gone; {
		host.Run(func() { _, err := net.InterfaceByName("v0"); gone = err != nil })
		if time.Now().After(deadline) {
			t.Fatal("the namespace of an instance that was killed is still there")
		}
	}
	s.Stop()
	if n := s.Sent(); Lost(1, n, i.Receiver) != int(n)-len(i.Between(1, n)) || len(i.Between(1, n)) != len(got) {
		t.Errorf("of %d datagrams %d are lost, %d came, %d before the end", n, Lost(1, n, i.Receiver), len(i.Between(1, n)), len(got))
	}
}
