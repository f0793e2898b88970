package budget

import (
	"cmp"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline/share"
)

// Controller divides links among transfers as time goes on. The zero value is ready.
type Controller struct {
	links     map[string]*ledger
	transfers map[string]*running
	ended     []echo
}

// echo is the part of links that a transfer had which has ended.
type echo struct {
	links []string
	rate  float64
	until time.Duration
}

// ledger counts what has been sent over a link.
type ledger struct {
	bucket *share.Bucket
}

type running struct {
	links []string
	sent  uint64
	// inForce is the highest limit that may still be obeyed: the old one until the new one is known to be carried out.
	inForce float64
	wanted  float64
}

// Limit is what a transfer is to be held to, in bytes a second. A transfer is told its limit when it changes.
type Limit struct {
	ID   string
	Rate float64
}

const (
	// margin is what hypervisors send beside what they count: headers and TLS records.
	margin = .98
	// hysteresis is the least change of a limit that is worth a call.
	hysteresis = .02
	// lump is the debt that comes from counting in lumps: what a hypervisor sends between two looks at it.
	lump = 150 * time.Millisecond
	// pay is the time in which a debt is paid.
	pay = time.Second
	// mostPaid is the part of a link that a debt may take.
	mostPaid = .75
	// silence is for how long nobody gets what an ended transfer had: at the switch hypervisors send what is left at once, past the
	// limit, and who is let go faster sends two slices of a tenth of a second at once.
	silence = 100 * time.Millisecond
)

// Step looks at what was sent until now and returns the limits that have to change, those to be lowered first. The caller
// carries them out in this order and tells with Done; without it no other transfer gets what was taken away.
func (c *Controller) Step(now time.Duration, links []Link, transfers []Transfer) []Limit {
	c.forget(now, links, transfers)
	rates := make([]Link, len(links))
	for i, l := range links {
		rates[i] = Link{l.Name, l.Rate * margin}
		c.ledger(l.Name).bucket.Set(now, l.Rate)
	}
	for _, t := range transfers {
		r := c.running(t.ID)
		r.links = t.Links
		if t.Sent > r.sent {
			for _, name := range t.Links {
				if led := c.links[name]; led != nil {
					led.bucket.Take(now, float64(t.Sent-r.sent))
				}
			}
			r.sent = t.Sent
		}
	}
	for i := range rates {
		debt := c.links[rates[i].Name].bucket.Wait(now) - lump
		rates[i].Rate *= 1 - min(mostPaid, max(0, debt.Seconds()/pay.Seconds()))
	}
	return c.limits(rates, transfers, Grants(rates, transfers))
}

// limits holds raised transfers to what is not in force elsewhere.
func (c *Controller) limits(links []Link, transfers []Transfer, grants map[string]float64) (list []Limit) {
	free := make(map[string]float64, len(links))
	for _, l := range links {
		free[l.Name] = l.Rate
	}
	for _, t := range transfers {
		held := min(c.transfers[t.ID].inForce, grants[t.ID])
		if c.transfers[t.ID].inForce > grants[t.ID] {
			held = c.transfers[t.ID].inForce // until it is lowered
		}
		for _, name := range t.Links {
			free[name] -= held
		}
	}
	for _, e := range c.ended {
		for _, name := range e.links {
			free[name] -= e.rate
		}
	}
	order := slices.Clone(transfers)
	slices.SortStableFunc(order, func(a, b Transfer) int { return -cmp.Compare(a.Priority, b.Priority) })
	for _, t := range order {
		r, goal := c.transfers[t.ID], grants[t.ID]
		if goal > r.inForce && len(t.Links) > 0 {
			rise := goal - r.inForce
			for _, name := range t.Links {
				if room, ok := free[name]; ok {
					rise = min(rise, max(0, room))
				}
			}
			for _, name := range t.Links {
				free[name] -= rise
			}
			goal = r.inForce + rise
		}
		if goal > r.wanted*(1-hysteresis) && goal < r.wanted*(1+hysteresis) && r.wanted > 0 {
			continue
		}
		r.wanted = goal
		r.inForce = max(r.inForce, goal)
		list = append(list, Limit{t.ID, goal})
	}
	slices.SortStableFunc(list, func(a, b Limit) int {
		return cmp.Compare(a.Rate-c.transfers[a.ID].inForce, b.Rate-c.transfers[b.ID].inForce)
	})
	return list
}

// Done notes that a limit is in force.
func (c *Controller) Done(l Limit) {
	if r := c.transfers[l.ID]; r != nil && r.wanted == l.Rate {
		r.inForce = l.Rate
	}
}

// Limit is what a transfer is held to now.
func (c *Controller) Limit(id string) float64 {
	if r := c.transfers[id]; r != nil {
		return r.wanted
	}
	return 0
}

func (c *Controller) running(id string) *running {
	r := c.transfers[id]
	if r == nil {
		r = &running{}
		c.transfers[id] = r
	}
	return r
}

func (c *Controller) ledger(name string) *ledger {
	l := c.links[name]
	if l == nil {
		l = &ledger{bucket: share.NewBucket(nil)}
		c.links[name] = l
	}
	return l
}

// forget drops what is no longer there.
func (c *Controller) forget(now time.Duration, links []Link, transfers []Transfer) {
	if c.links == nil {
		c.links, c.transfers = make(map[string]*ledger), make(map[string]*running)
	}
	for name := range c.links {
		if !slices.ContainsFunc(links, func(l Link) bool { return l.Name == name }) {
			delete(c.links, name)
		}
	}
	c.ended = slices.DeleteFunc(c.ended, func(e echo) bool { return now >= e.until })
	for id, r := range c.transfers {
		if !slices.ContainsFunc(transfers, func(t Transfer) bool { return t.ID == id }) {
			c.ended = append(c.ended, echo{r.links, r.inForce, now + silence})
			delete(c.transfers, id)
		}
	}
}
