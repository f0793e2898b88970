package network

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/nic/netlab"
)

// lab is a management network on c0.
type lab struct {
	t *testing.T
	*netlab.Lab
}

func newLab(t *testing.T) *lab { return &lab{t, netlab.New(t)} }

func (l *lab) devices() []hw.Device {
	return []hw.Device{
		{ID: "serial:disk", Place: "pci:0000:00:01.0", Kind: hw.Disk, Node: "/dev/vda", Supported: true},
		{ID: "mac:02:00:00:00:00:09", Place: "pci:0000:00:02.0", Kind: hw.NIC, Node: "other0", Supported: true},
		{ID: "mac:02:00:00:00:00:01", Place: "pci:0000:00:03.0", Kind: hw.NIC, Node: "c0", Supported: true},
	}
}

// up starts the management network on c0.
func (l *lab) up(c Config) *Management { return l.replace(nil, c) }

// replace starts it in place of another.
func (l *lab) replace(old *Management, c Config) *Management {
	l.t.Helper()
	c.Claimed = []string{"mac:02:00:00:00:00:09"}
	if c.ResolvConf == "" {
		c.ResolvConf = filepath.Join(l.t.TempDir(), "resolv.conf")
	}
	c.Log = slog.New(slog.NewTextHandler(l.t.Output(), nil))
	m, err := Replace(l.t.Context(), old, c, l.devices())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(m.Close)
	return m
}

func ready(t *testing.T, m *Management) {
	t.Helper()
	select {
	case <-m.Ready():
	case <-time.After(10 * time.Second):
		t.Fatalf("not ready: %+v", m.Status())
	}
}

// await polls the status, which has no other way to wait for a change of it.
func await(t *testing.T, m *Management, what string, ok func(Status) bool) Status {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		s := m.Status()
		if ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s: %+v, lease %+v", what, s, s.Lease)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func has(s Status, address string) bool {
	for _, a := range s.Addresses {
		if a == netip.MustParsePrefix(address) {
			return true
		}
	}
	return false
}

// dhcpServer answers as it is told to at the moment.
type dhcpServer struct {
	mu      sync.Mutex
	address string        // to offer
	lease   time.Duration // and T1, T2
	t1, t2  time.Duration
	mode    string // "" answers, "silent" does not, "deaf to unicast", "nak" refuses requests
	seen    chan *dhcpv4.DHCPv4
}

func (l *lab) serveDHCP(s *dhcpServer) *dhcpServer {
	l.t.Helper()
	s.seen = make(chan *dhcpv4.DHCPv4, 100)
	l.On(func() {
		server, err := server4.NewServer("s0", &net.UDPAddr{Port: 67}, s.answer)
		if err != nil {
			l.t.Errorf("start DHCP server: %v", err)
			return
		}
		l.t.Cleanup(func() { server.Close() })
		go server.Serve() // ends when the test closes it
	})
	return s
}

// set changes the server's mind.
func (s *dhcpServer) set(change func(*dhcpServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *dhcpServer) answer(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen <- m
	asked := m.RequestedIPAddress()
	if asked == nil {
		asked = m.ClientIPAddr
	}
	kind := map[dhcpv4.MessageType]dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover: dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeRequest: dhcpv4.MessageTypeAck,
	}[m.MessageType()]
	unicast := !m.ClientIPAddr.IsUnspecified() && peer.(*net.UDPAddr).IP.Equal(m.ClientIPAddr)
	switch {
	case s.mode == "silent", s.mode == "deaf to unicast" && unicast:
		return
	case m.MessageType() == dhcpv4.MessageTypeRequest && !asked.Equal(net.ParseIP(s.address)):
		kind = dhcpv4.MessageTypeNak
	}
	reply, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithServerIP(net.IPv4(10, 7, 0, 1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 7, 0, 1))),
		dhcpv4.WithYourIP(net.ParseIP(s.address)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 7, 0, 1)),
		dhcpv4.WithDNS(net.IPv4(10, 7, 0, 3)),
		dhcpv4.WithOption(dhcpv4.OptDomainName("lab.example")),
		dhcpv4.WithOption(dhcpv4.OptNTPServers(net.IPv4(10, 7, 0, 4))),
		dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(s.lease)))
	if err != nil {
		return
	}
	if s.t1 > 0 {
		reply.UpdateOption(dhcpv4.OptRenewTimeValue(s.t1))
		reply.UpdateOption(dhcpv4.OptRebindingTimeValue(s.t2))
	}
	_, _ = conn.WriteTo(reply.ToBytes(), peer)
}

// expect waits for a message from the client.
func (s *dhcpServer) expect(t *testing.T, what string, ok func(*dhcpv4.DHCPv4) bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case m := <-s.seen:
			if ok(m) {
				return
			}
		case <-deadline:
			t.Fatalf("the server never saw %s", what)
		}
	}
}

func isRenewal(m *dhcpv4.DHCPv4) bool {
	return m.MessageType() == dhcpv4.MessageTypeRequest && !m.ClientIPAddr.IsUnspecified()
}
