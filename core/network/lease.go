package network

import (
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/hw/nic/netif"
)

// lease is what a DHCP server granted, in the terms the rest of the package works with.
type lease struct {
	address  netip.Prefix
	server   netip.Addr
	routers  []netip.Addr
	routes   []netif.Route // classless static routes; they replace routers (RFC 3442)
	dns      []netip.Addr
	search   []string
	ntp      []netip.Addr
	duration time.Duration
	t1, t2   time.Duration // 0 means the RFC's defaults
}

// phase is the state of a DHCP client after RFC 2131, figure 5.
type phase string

const (
	phaseInit      phase = "init"
	phaseBound     phase = "bound"
	phaseRenewing  phase = "renewing"
	phaseRebinding phase = "rebinding"
)

// action is what the machine wants done now.
type action string

const (
	actWait     action = "wait"
	actDiscover action = "discover" // a new lease from whichever server answers
	actRenew    action = "renew"    // ask the lease's server, unicast
	actRebind   action = "rebind"   // ask any server, broadcast
	actExpire   action = "expire"   // give the address up
)

// Bounds of the pauses between attempts.
const (
	minDiscoverPause = time.Second
	maxDiscoverPause = 64 * time.Second
	minRenewPause    = time.Minute // RFC 2131 4.4.5
	defaultLease     = time.Hour   // for a server that names no time
)

// confirmTries is how often a lease is asked for that may be another network's. The server of that one may keep silent
// about it for ever (RFC 2131 4.3.2), and then the address would be of no use until the lease ends.
const confirmTries = 3

// machine decides when a client asks for what. It does no I/O and has no clock; times are
// passed in. The zero value is a client without a lease.
type machine struct {
	phase phase
	lease lease
	since time.Time // when the lease was granted
	next  time.Time // earliest next attempt
	pause time.Duration
	// unconfirmed is set while a lease is checked against what may be another network, silent counts who did not answer.
	unconfirmed bool
	silent      int
	jitter      func(time.Duration) time.Duration // spreads a pause; nil leaves it as it is
}

// step says what to do at now, and for actWait how long nothing needs doing.
func (m *machine) step(now time.Time) (action, time.Duration) {
	if m.phase == "" {
		m.phase = phaseInit
	}
	if m.phase != phaseInit {
		switch age := now.Sub(m.since); {
		case age >= m.lease.duration:
			return actExpire, 0
		case age >= m.lease.t2:
			m.enter(phaseRebinding, now)
		case age >= m.lease.t1:
			m.enter(phaseRenewing, now)
		default:
			return actWait, m.since.Add(m.lease.t1).Sub(now)
		}
	}
	if now.Before(m.next) {
		return actWait, m.untilNext(now)
	}
	switch m.phase {
	case phaseRenewing:
		return actRenew, 0
	case phaseRebinding:
		if m.silent < confirmTries {
			return actRebind, 0
		}
	}
	return actDiscover, 0
}

// enter moves on to a later phase; its first attempt is due at once.
func (m *machine) enter(p phase, now time.Time) {
	if m.phase != p {
		m.phase, m.next = p, now
	}
}

// untilNext is the wait for the next attempt, cut short by the next phase.
func (m *machine) untilNext(now time.Time) time.Duration {
	wait := m.next.Sub(now)
	switch m.phase {
	case phaseRenewing:
		wait = min(wait, m.since.Add(m.lease.t2).Sub(now))
	case phaseRebinding:
		wait = min(wait, m.since.Add(m.lease.duration).Sub(now))
	}
	return wait
}

// granted takes over a new or renewed lease. Times that a server leaves out or mixes up are
// replaced by the RFC's defaults: T1 half and T2 seven eighths of the lease.
func (m *machine) granted(l lease, now time.Time) {
	if l.duration <= 0 {
		l.duration = defaultLease
	}
	if l.t2 <= 0 || l.t2 >= l.duration {
		l.t2 = l.duration / 8 * 7
	}
	if l.t1 <= 0 || l.t1 >= l.t2 {
		l.t1 = min(l.duration/2, l.t2)
	}
	*m = machine{phase: phaseBound, lease: l, since: now, next: now, jitter: m.jitter}
}

// failed notes that nobody answered. A client without a lease, or with one that must be
// confirmed, doubles its pause; one with a lease tries again after half of the time that is
// left in its phase.
func (m *machine) failed(now time.Time) {
	if m.unconfirmed {
		m.silent++
	}
	switch {
	case m.phase == phaseRenewing:
		m.next = now.Add(max(m.since.Add(m.lease.t2).Sub(now)/2, minRenewPause))
	case m.phase == phaseRebinding && !m.unconfirmed:
		m.next = now.Add(max(m.since.Add(m.lease.duration).Sub(now)/2, minRenewPause))
	default:
		m.pause = min(max(2*m.pause, minDiscoverPause), maxDiscoverPause)
		wait := m.pause
		if m.jitter != nil {
			wait = m.jitter(wait)
		}
		m.next = now.Add(wait)
	}
}

// lost drops the lease: it ran out, or a server refused it. The next attempt is due at once,
// but a server that refuses again and again is asked at the pace of failures.
func (m *machine) lost(now time.Time) {
	*m = machine{phase: phaseInit, next: now, pause: m.pause, jitter: m.jitter}
}

// replugged is told when the link came back: it may be another network now. A lease is
// confirmed with whoever answers; when nobody does, a new one is asked for beside it. Without
// one the next attempt is due at once.
func (m *machine) replugged(now time.Time) {
	m.next, m.pause, m.silent = now, 0, 0
	if m.phase != phaseInit && m.phase != "" {
		m.phase, m.unconfirmed = phaseRebinding, true
		// From here on only a new grant or the end of the lease leads out.
		m.lease.t1, m.lease.t2 = 0, 0
	}
}
