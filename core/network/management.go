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
	// session is what run has applied; nil without a link. Others read it once done is closed.
	session *session

	mu     sync.Mutex
	status Status
}

// Up starts the management network on one of the devices and returns at once; ctx ends it as
// Close does. When there is no NIC to use or the configuration makes no sense, Up returns the
// error and a Management that never becomes ready but has the reason in its Status: a boot
// goes on with it.
func Up(ctx context.Context, c Config, devices []hw.Device) (*Management, error) {
	return Replace(ctx, nil, c, devices)
}

// linger is how long an address that is not wanted any more answers: the call that changed it may have come over it.
const linger = 10 * time.Second

// Replace is Up in place of old, which it closes. What old has put into the kernel and c does not name is taken back: static
// routes at once, and addresses after linger; a lease too, unless DHCP goes on with it. A NIC that is not used any more is
// set down at once.
func Replace(ctx context.Context, old *Management, c Config, devices []hw.Device) (*Management, error) {
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
	var kept applied
	if old != nil {
		var withdrawErr error
		kept, withdrawErr = old.withdraw(c, nic.Node)
		err = errors.Join(err, withdrawErr)
	}
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
	go m.run(ctx, nic.Node, kept)
	return m, err
}

// withdraw closes m and takes back what c, on the link named next, does not want. A lease that it may want is kept.
func (m *Management) withdraw(c Config, next string) (kept applied, err error) {
	m.Close()
	name := m.Status().Link
	if m.session == nil {
		return applied{}, nil
	}
	l, err := netif.Open(name)
	if err != nil {
		return applied{}, nil // a link that is gone took everything with it
	}
	defer l.Close()
	if next != name {
		c = Config{NoDHCP: true}
	}
	var errs []error
	for _, g := range m.config.Gateway {
		if !slices.Contains(c.Gateway, g) {
			errs = append(errs, l.DeleteRoute(defaultRoute(g), netif.ProtocolStatic))
		}
	}
	gone := slices.Clone(m.config.Addresses)
	had := m.session.applied
	if c.NoDHCP {
		for _, r := range had.routes {
			errs = append(errs, l.DeleteRoute(r, netif.ProtocolDHCP))
		}
		if had.lease.IsValid() {
			gone = append(gone, had.lease)
		}
		had = applied{}
	}
	now, err := l.Observe()
	errs = append(errs, err)
	for _, a := range gone {
		switch {
		case slices.Contains(c.Addresses, a) || !slices.Contains(now.Addresses, a):
		case next != name:
			errs = append(errs, l.DeleteAddress(a))
		default:
			errs = append(errs, l.SetAddress(a, linger))
		}
	}
	if next != name {
		errs = append(errs, l.Down())
	}
	return had, errors.Join(errs...)
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

// Close ends the care for the network and waits for that; the network stays as it is. See Replace for a change of it.
func (m *Management) Close() {
	m.cancel()
	<-m.done
}

// run is the one goroutine that changes the network.
func (m *Management) run(ctx context.Context, name string, kept applied) {
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
	s := &session{Management: m, link: l, client: &dhcp{link: name, hostname: m.config.Hostname, timeout: m.config.firstWait}, applied: kept}
	m.session = s
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
