package network

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/nic/netif"
)

// Status is what the management network is at one moment.
type Status struct {
	NIC       string         `json:"nic,omitempty"`  // stable id
	Link      string         `json:"link,omitempty"` // "eth0"
	Carrier   bool           `json:"carrier"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Gateway   []netip.Addr   `json:"gateway,omitempty"`
	DNS       []netip.Addr   `json:"dns,omitempty"`
	Search    []string       `json:"search,omitempty"`
	NTP       []netip.Addr   `json:"ntp,omitempty"` // as offered by DHCP
	Lease     *Lease         `json:"lease,omitempty"`
	// Problem says what is wrong, "" when nothing is.
	Problem string `json:"problem,omitempty"`
}

// Lease is the state of the DHCP client.
type Lease struct {
	State   string       `json:"state"` // init, bound, renewing, rebinding
	Address netip.Prefix `json:"address,omitzero"`
	Server  netip.Addr   `json:"server,omitzero"`
	Expires time.Time    `json:"expires,omitzero"`
}

// Management is the running management network. Its methods may be called by any goroutine.
type Management struct {
	config Config
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}
	ready  chan struct{}

	mu     sync.Mutex
	status Status
}

// Up starts the management network on one of the devices and returns at once; ctx ends it as
// Close does. When there is no NIC to use or the configuration makes no sense, Up returns the
// error and a Management that never becomes ready but has the reason in its Status: a boot
// goes on with it.
func Up(ctx context.Context, c Config, devices []hw.Device) (*Management, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.firstWait == 0 {
		c.firstWait = firstWait
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &Management{config: c, log: c.Log, cancel: cancel, done: make(chan struct{}), ready: make(chan struct{})}
	err := errors.Join(netif.LoopbackUp(), m.setHostname(), c.Check())
	nic, chooseErr := c.choose(devices)
	if err = errors.Join(err, chooseErr); chooseErr != nil {
		m.status.Problem = err.Error()
		cancel()
		close(m.done)
		return m, err
	}
	if err != nil {
		m.status.Problem = err.Error()
	}
	m.status.NIC, m.status.Link = nic.ID, nic.Node
	go m.run(ctx, nic.Node)
	return m, err
}

func (m *Management) setHostname() error {
	if m.config.Hostname == "" {
		return nil
	}
	return unix.Sethostname([]byte(m.config.Hostname))
}

// Ready is closed when the first address can be used.
func (m *Management) Ready() <-chan struct{} { return m.ready }

// Status is a copy that the caller may keep.
func (m *Management) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Addresses = slices.Clone(s.Addresses)
	if s.Lease != nil {
		l := *s.Lease
		s.Lease = &l
	}
	return s
}

// Close ends the care for the network and waits for that; the network stays as it is.
func (m *Management) Close() {
	m.cancel()
	<-m.done
}

// run is the one goroutine that changes the network.
func (m *Management) run(ctx context.Context, name string) {
	defer close(m.done)
	changes := make(chan struct{}, 1)
	if err := netif.Follow(ctx, func() {
		select {
		case changes <- struct{}{}:
		default: // one pending change is as good as many
		}
	}); err != nil {
		m.problem(err)
	}
	l, err := netif.Open(name)
	if err != nil {
		m.problem(err)
		return
	}
	defer l.Close()
	s := &session{Management: m, link: l, client: &dhcp{link: name, hostname: m.config.Hostname, timeout: m.config.firstWait}}
	s.machine.jitter = func(d time.Duration) time.Duration { return d + rand.N(d/4) - d/8 }
	for ctx.Err() == nil {
		wait := s.turn(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changes:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (m *Management) problem(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if text != "" && text != m.status.Problem {
		m.log.Warn("management network", "problem", text)
	}
	m.status.Problem = text
}
