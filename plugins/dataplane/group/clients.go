package group

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Clients is the control plane's knowledge of who has applied what. Pure; times are of one monotonic clock.
type Clients struct {
	// Lease is for how long a client uses what it could confirm, counted from its asking.
	Lease time.Duration
	// Unknown is until when a client may be using what it confirmed with this box's former process.
	Unknown time.Duration
	all     map[string]client
}

type client struct {
	applied Version
	// granted is when this side last confirmed: a client counts from its asking, so it stops before granted + Lease.
	granted  time.Duration
	ever     bool
	outcomes Outcomes
}

// Status is one client as an operator sees it.
type Status struct {
	Host    string
	Applied Version
	// Behind is for how long it has not been confirmed; Lapsed: for longer than its lease.
	Behind   time.Duration
	Lapsed   bool
	Outcomes Outcomes // of its packets, as it told last
}

// Applied notes an acknowledgement and says whether it is news. A client that restarted may have applied less than before.
func (c *Clients) Applied(host string, v Version) (news bool) {
	if c.all == nil {
		c.all = map[string]client{}
	}
	k, known := c.all[host]
	news = !known || k.applied != v
	k.applied = v
	c.all[host] = k
	return news
}

// Told notes a known client's counters.
func (c *Clients) Told(host string, o Outcomes) {
	if k, known := c.all[host]; known {
		k.outcomes = o
		c.all[host] = k
	}
}

// Granted notes that the client is being told that what it has is current.
func (c *Clients) Granted(host string, now time.Duration) {
	k := c.all[host]
	k.granted, k.ever = now, true
	c.all[host] = k
}

// Prune forgets clients that have been silent for so long that they use nothing.
func (c *Clients) Prune(now, silent time.Duration) {
	for host, k := range c.all {
		if now-k.granted > max(silent, c.Lease) {
			delete(c.all, host)
		}
	}
}

// Settled says whether no client uses anything older than v any more, and if not, whose silence is to be waited
// for and until when. A client under policy open may use what is older for ever: it is the operator's choice.
func (c *Clients) Settled(v Version, now time.Duration) (settled bool, until time.Duration) {
	settled, until = now >= c.Unknown, c.Unknown
	for _, k := range c.all {
		if k.applied.Compare(v) >= 0 || !k.ever || now >= k.granted+c.Lease {
			continue
		}
		settled, until = false, max(until, k.granted+c.Lease)
	}
	return settled, until
}

// List shows the clients, the slowest first.
func (c *Clients) List(now time.Duration) []Status {
	var out []Status
	for _, host := range slices.Sorted(maps.Keys(c.all)) {
		k := c.all[host]
		s := Status{Host: host, Applied: k.applied, Behind: now - k.granted, Outcomes: k.outcomes}
		s.Lapsed = !k.ever || s.Behind >= c.Lease
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b Status) int {
		return cmp.Or(a.Applied.Compare(b.Applied), cmp.Compare(b.Behind, a.Behind))
	})
	return out
}
