// Package credit judges what a host's agent reports about one backend: invariant D1.
//
// A report is {sequence, limit, accepted}. It says how many connections more the backend takes, and how many of those
// that this balancer dispatched are already in that account; what is in between is on its way, and the program
// subtracts it: credit = limit − (dispatched − accepted). The program takes one credit for each new connection, and
// none once the report is older than its TTL. This package decides which reports get that far:
//
//   - one that is not newer than the last is refused, whether replayed, doubled or overtaken;
//   - an agent that started anew (another incarnation) is believed only after it has claimed nothing once and so
//     learnt the balancer's count; its former incarnation is never heard again;
//   - counts of another life of the balancer are refused with a word to say so: after the box's restart, or when the
//     backend was removed and added, its count began anew, and old numbers would overdraw it.
//
// Who sent a report, and that nobody altered or repeated it, is the control channel's to prove; here is what remains to
// be judged of a proven host. The engine is pure; it is stepped with the time since any fixed moment.
package credit

import (
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
)

// Verdict on an entry of a report.
type Verdict int

// Values of Verdict.
const (
	// Refuse: it is not newer than what is known; there is no answer to it.
	Refuse Verdict = iota
	// Rebase: the agent must begin with a report that claims nothing. The credit stays as it is.
	Rebase
	// Apply: the grant is to be put in force.
	Apply
)

func (v Verdict) String() string { return [...]string{"refuse", "rebase", "apply"}[v] }

// Grant is what goes to the program.
type Grant struct {
	Limit    uint32
	Accepted uint64
}

// Account is what is remembered of one backend's agent. The zero value has heard nobody.
type Account struct {
	// Synced says that the agent's numbers and the program's count have the same origin. It is true in a zero
	// account only if the count outlived the balancer's process.
	Synced bool

	incarnation, sequence uint64
	past                  [4]uint64

	limit    uint32
	reported time.Duration
	heard    bool
}

// Take judges an entry. life is the balancer's incarnation, dispatched the backend's count at this moment.
func (a *Account) Take(now time.Duration, r *report.Report, c report.Component, life, dispatched uint64) (Grant, Verdict) {
	switch {
	case r.Incarnation == 0 || slices.Contains(a.past[:], r.Incarnation):
		return Grant{}, Refuse
	case r.Incarnation == a.incarnation && r.Sequence <= a.sequence:
		return Grant{}, Refuse
	case r.Incarnation != a.incarnation && a.incarnation != 0:
		copy(a.past[1:], a.past[:])
		a.past[0] = a.incarnation
		a.Synced = false
	}
	a.incarnation, a.sequence = r.Incarnation, r.Sequence
	g := Grant{Limit: c.Limit, Accepted: c.Accepted}
	switch {
	case !c.Known:
		a.Synced = true
		g = Grant{Accepted: dispatched}
	case r.Balancer != life || !a.Synced:
		a.Synced = false
		return Grant{}, Rebase
	}
	a.limit, a.reported, a.heard = g.Limit, now, true
	return g, Apply
}

// Fresh says whether a report is in force.
func (a *Account) Fresh(now, ttl time.Duration) bool { return a.heard && now-a.reported <= ttl }

// Age is how old the last report is; ok is false when there was none.
func (a *Account) Age(now time.Duration) (age time.Duration, ok bool) {
	return now - a.reported, a.heard
}

// Limit is that of the last report.
func (a *Account) Limit() uint32 { return a.limit }
