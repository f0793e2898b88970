package policy

import (
	"cmp"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

const (
	// Patience is how many passes in a row may leave as much as the best one before.
	Patience = 3
	// worth is the part of the best remainder that a pass must get below to count as progress.
	worth = .9
	// hopeless is the dirty rate, as a part of the bandwidth, from which on a pass cannot win.
	hopeless = .95
	// firstThrottle and moreThrottle are percent of the guest's time; it keeps a little in any case.
	firstThrottle, moreThrottle, mostThrottle = 20, 20, 95
	// switching is the part of the gap that is not memory: state of devices, handover of volumes, the journal, the start.
	switching = 40 * time.Millisecond
	// defaultStall is that of a goal without one.
	defaultStall = 30 * time.Second
	// burstPasses end a burst: the one under way, and one of what was written during it. longestBurst ends it in any case.
	burstPasses  = 2
	longestBurst = time.Second
	// lastOfShare bounds what is left for the switch where a budget is shared, in time at the bandwidth: hypervisors send that at
	// once, past any limit, and with the second before it makes more than the budget. A guest that never leaves so little is
	// allowed as much as its gap does: see insist.
	lastOfShare = 30 * time.Millisecond
	// opening is the part of a share that a transfer begins with: QEMU spends two slices of a tenth of a second at once then, and
	// eleven of them make a second of more than the budget.
	opening = 2
	// standing is for how long a source may stand still that its hypervisor was asked to wait for.
	standing = 5 * time.Second
)

// Goal is what a transfer may cost.
type Goal struct {
	// Gap is how long the guest may stand still.
	Gap time.Duration
	// Deadline of the transfer, from its start; 0 is none.
	Deadline time.Duration
	// Stall is for how long it may stand still; 0 is 30 s.
	Stall time.Duration
	// Bandwidth is the most it may use, bytes a second; 0 is all there is.
	Bandwidth uint64
	// Share is what it may use at first of a budget that others have a part in; 0 is no such budget. It begins with less, until
	// Controller.Bandwidth is told, after Opening.
	Share uint64
	// Throttle and PostCopy allow those, and the hosts can do them.
	Throttle, PostCopy bool
	// AtOnce begins with post-copy, before any pass has ended. It needs PostCopy.
	AtOnce bool
	// Rest is the most that may be used of the link once a post-copy has begun, bytes a second; 0 is all there is.
	Rest uint64
	// OnePass goes over to post-copy once everything was sent once: pre-copy was found not to end, and what the guest does not
	// write to need not be waited for at the target. It needs PostCopy.
	OnePass bool
	// Held begins with a guest held back: pre-copy was found to end only so. It needs Throttle.
	Held bool
}

// Decision is what to do now.
type Decision struct {
	// Limits are set when they change.
	Limits *hypervisor.Limits
	// GiveUp ends the transfer; the source runs on.
	GiveUp string
	// Why explains either in words.
	Why string
}

// Controller steers one transfer.
type Controller struct {
	goal   Goal
	limits hypervisor.Limits
	gap    time.Duration // the most that limits.Downtime may be

	passes int     // seen to end
	best   uint64  // least that a pass left
	stuck  int     // passes in a row that did not get below it
	rate   float64 // bytes a second sent, smoothed

	bursting bool
	burstAt  time.Duration // when that began, and in which pass
	burstIn  int

	phase string // last seen, with the bytes sent by then; since is when either changed
	sent  uint64
	since time.Duration
}

// New begins a transfer.
func New(g Goal) *Controller {
	g.Stall = cmp.Or(g.Stall, defaultStall)
	c := &Controller{goal: g}
	c.gap = max(g.Gap-switching, g.Gap/2)
	c.limits = hypervisor.Limits{Bandwidth: g.Bandwidth, Rest: g.Rest, Downtime: c.gap}
	if g.Share > 0 {
		c.limits.Downtime = min(c.limits.Downtime, lastOfShare)
		if g.Bandwidth == 0 || g.Share < g.Bandwidth {
			c.limits.Bandwidth = g.Share
		}
		c.limits.Bandwidth = max(1, c.limits.Bandwidth/opening)
	}
	if g.Held && g.Throttle {
		c.limits.Throttle = firstThrottle
	}
	return c
}

// Start is what the transfer begins with.
func (c *Controller) Start() hypervisor.Options {
	return hypervisor.Options{Limits: c.limits, PostCopy: c.goal.PostCopy}
}

// Opening is how many bytes are to be seen sent before the bandwidth is changed, 0 where it is not shared: more than the headers
// that come first.
func (c *Controller) Opening() uint64 { return c.goal.Share / 10 }

// Bandwidth changes how much may be used; 0 is as much as the goal allows, which is never exceeded.
func (c *Controller) Bandwidth(bytes uint64) Decision {
	if c.goal.Bandwidth > 0 && (bytes == 0 || bytes > c.goal.Bandwidth) {
		bytes = c.goal.Bandwidth
	}
	if bytes == c.limits.Bandwidth || c.limits.StopNow {
		return Decision{}
	}
	c.limits.Bandwidth = bytes
	if c.bursting {
		return Decision{} // it holds again at the stop
	}
	// What was seen under another bandwidth says little about this one.
	c.best, c.stuck, c.rate = 0, 0, 0
	return c.set("the bandwidth of the move has changed")
}

// Observe takes a measurement made so long after the start.
func (c *Controller) Observe(at time.Duration, p hypervisor.Progress) Decision {
	if why := c.stuckIn(at, p); why != "" {
		return Decision{GiveUp: why}
	}
	if c.limits.StopNow || p.Phase != "active" {
		return Decision{}
	}
	if c.bursting {
		return c.afterBurst(at, p)
	}
	c.measure(p.Bandwidth)
	if c.goal.AtOnce && c.goal.PostCopy {
		return c.stop("pre-copy would harm this guest")
	}
	if c.goal.OnePass && c.goal.PostCopy && p.Passes > 1 {
		return c.burst(at, p, "it was found before the start that pre-copy would not end")
	}
	if c.goal.Deadline > 0 && at >= c.goal.Deadline {
		if c.goal.PostCopy {
			return c.stop("the deadline has come")
		}
		return Decision{GiveUp: "the deadline has come: give the move more time or bandwidth, or allow post-copy"}
	}
	ended := p.Passes - 1 // the last one goes on
	if ended <= c.passes {
		return Decision{}
	}
	c.passes = ended
	// What the pass left is what the guest wrote meanwhile.
	if c.best == 0 || float64(p.Remaining) < worth*float64(c.best) {
		c.best, c.stuck = p.Remaining, 0
	} else {
		c.stuck++
	}
	end, converges := c.Ahead(p)
	switch {
	case !converges && c.stuck > 0, c.stuck >= Patience:
		return c.insist(at, p, fmt.Sprintf("the guest writes %.0f MB/s and %.0f MB/s are sent", p.DirtyRate/1e6, c.rate/1e6))
	case c.goal.Deadline > 0 && at+end > c.goal.Deadline:
		return c.insist(at, p, fmt.Sprintf("it would take %s more, beyond the deadline", end.Round(time.Second)))
	}
	return Decision{}
}

// stuckIn tells why no more is to be expected of a transfer.
func (c *Controller) stuckIn(at time.Duration, p hypervisor.Progress) string {
	if p.Phase != c.phase || p.Transferred != c.sent {
		c.phase, c.sent, c.since = p.Phase, p.Transferred, at
	}
	still := at - c.since
	switch {
	case p.Phase == "failed", p.Phase == "cancelled":
		return fmt.Sprintf("the transfer %s: %s", p.Phase, p.Problem)
	case p.Phase == "switchover" && still > standing:
		return fmt.Sprintf("the source stands still for %s and its host does not say so", still.Round(time.Second))
	case still > c.goal.Stall:
		return fmt.Sprintf("nothing was sent for %s: look at the link between the hosts", still.Round(time.Second))
	}
	return ""
}

func (c *Controller) measure(rate float64) {
	switch {
	case rate <= 0:
	case c.rate == 0:
		c.rate = rate
	default:
		c.rate = .7*c.rate + .3*rate // a pass over zero pages looks infinitely fast
	}
	if cap := float64(c.limits.Bandwidth); cap > 0 {
		c.rate = min(c.rate, cap)
	}
}

// Ahead is how long pre-copy still takes if everything stays as it is, and whether it ends.
func (c *Controller) Ahead(p hypervisor.Progress) (time.Duration, bool) {
	if c.rate <= 0 {
		return 0, true
	}
	left := float64(p.Remaining) - c.rate*c.limits.Downtime.Seconds()
	switch {
	case left <= 0:
		return 0, true
	case p.DirtyRate >= hopeless*c.rate:
		return time.Duration(left / c.rate * float64(time.Second)), false
	}
	return time.Duration(left / (c.rate - p.DirtyRate) * float64(time.Second)), true
}

// insist does what the goal allows to bring the transfer to its end.
func (c *Controller) insist(at time.Duration, p hypervisor.Progress, why string) Decision {
	c.stuck = 0
	switch {
	case c.limits.Downtime < c.gap:
		c.limits.Downtime, c.best = c.gap, 0
		return c.set(why + ": as much is left for the switch as the gap allows, though that goes past the budget")
	case c.goal.PostCopy:
		return c.burst(at, p, why)
	case c.goal.Throttle && c.limits.Throttle < mostThrottle:
		c.limits.Throttle = min(max(firstThrottle, c.limits.Throttle+moreThrottle), mostThrottle)
		c.best = 0 // the passes to come are others
		return c.set(fmt.Sprintf("%s: the guest is held back %d %% of its time", why, c.limits.Throttle))
	case c.goal.Throttle:
		return Decision{GiveUp: why + ", although the guest is held back: give the move more bandwidth or a longer gap, or allow post-copy"}
	}
	return Decision{GiveUp: why + ": allow throttling or post-copy, give the move more bandwidth, or wait until the guest writes less"}
}

// burst sends what the guest has written at the speed of the rest, while it still runs: the link carries the same bytes, and few
// are left for the guest to wait for. Where the rest may go no faster than the pre-copy there is nothing to be won.
func (c *Controller) burst(at time.Duration, p hypervisor.Progress, why string) Decision {
	rest := c.goal.Rest
	if c.limits.Bandwidth == 0 || rest > 0 && rest <= c.limits.Bandwidth {
		return c.stop(why)
	}
	c.bursting, c.burstAt, c.burstIn = true, at, p.Passes
	l := c.limits
	// The hypervisor is not to stop the guest for as much as this speed could send in the gap.
	l.Bandwidth, l.Downtime = rest, time.Millisecond
	return Decision{Limits: &l, Why: why + ": what it has written is sent as fast as the rest may go, before it is stopped"}
}

// afterBurst stops the guest once everything was sent again, or the link has turned out to be no faster.
func (c *Controller) afterBurst(at time.Duration, p hypervisor.Progress) Decision {
	switch {
	case p.Passes >= c.burstIn+burstPasses:
		return c.stop("little is left")
	case at-c.burstAt >= longestBurst:
		return c.stop("the link is not faster than the guest writes")
	}
	return Decision{}
}

// stop leaves the rest to post-copy, which has a limit of its own. That of the pre-copy stays until the source has stopped:
// lifted, it would fill the link's buffers with pages, and the state of the devices would wait behind them.
func (c *Controller) stop(why string) Decision {
	c.limits.StopNow = true
	speed := "at full speed, since the guest waits for it"
	if c.limits.Rest > 0 {
		speed = fmt.Sprintf("at %.0f MB/s at most", float64(c.limits.Rest)/1e6)
	}
	return c.set(why + ": the rest is left to post-copy, " + speed)
}

func (c *Controller) set(why string) Decision {
	l := c.limits
	return Decision{Limits: &l, Why: why}
}
