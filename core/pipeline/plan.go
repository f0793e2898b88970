package pipeline

import (
	"github.com/ratchetos/ratchet/core/pipeline/share"
)

// fade is what is left of what flowed after an interval in which something came in; it outlasts bursts and is forgotten
// within seconds of work. An interval without leaves everything as it was: what one item becomes may take longer than many.
const fade = 0.9

// measure turns what happened since the last plan into estimates.
func (s *Scheduler) measure() {
	now := s.now()
	interval := (now - s.planned).Seconds()
	s.planned = now
	if interval <= 0 {
		return
	}
	for _, p := range s.pipelines {
		came := 0
		for _, n := range p.nodes {
			if n.source {
				came += n.lately.items
			}
		}
		keep := 1.0
		if came > 0 {
			keep = fade
		}
		p.inflow = p.inflow*keep + float64(came)
		for _, n := range p.nodes {
			n.cost.Add(n.lately.items, n.lately.busy.Seconds())
			n.flow = n.flow*keep + float64(n.lately.items)
			n.rate += (1 - fade) * 2 * (float64(n.lately.items)/interval - n.rate)
			n.lately = measured{}
		}
	}
}

// allocate makes a plan and hands the grants out.
func (s *Scheduler) allocate() {
	now := s.now()
	demands := make([]share.Demand, len(s.pipelines))
	for i, p := range s.pipelines {
		demands[i] = p.demand()
	}
	s.plan = share.Allocate(share.Capacity{
		Workers: float64(s.options.Workers), Memory: float64(s.options.Memory), Bandwidth: float64(s.options.Bandwidth),
	}, demands, s.plan)
	for i, p := range s.pipelines {
		s.fair.Regrant(&p.member, s.plan.Grants[i])
		p.member.Bucket.Set(now, float64(p.options.Bandwidth))
	}
}

// demand is what the pipeline would need for each item that its sources put in.
func (p *Pipeline) demand() share.Demand {
	d := share.Demand{Weight: p.options.Weight, MaxMemory: float64(p.options.Memory), MaxSend: float64(p.options.Bandwidth)}
	offered, limited := 0.0, true
	for _, n := range p.nodes {
		in, out := n.fill()
		stage := share.Stage{Waits: n.options.Waits, Limit: n.options.Limit, In: in, Out: out, Seconds: n.cost.Seconds() * p.share(n)}
		if n.items > 0 {
			mean := float64(n.bytes) / float64(n.items)
			if n.source {
				d.Bytes = max(d.Bytes, mean)
			}
			if n.options.Sends {
				d.Send += mean * p.share(n)
			}
		}
		if n.source {
			rate := n.offers()
			offered, limited = offered+rate, limited && rate > 0
		}
		if n.source && n.options.Waits {
			stage.Seconds, stage.Limit = idle, 0
		}
		d.Stages = append(d.Stages, stage)
	}
	if limited {
		d.Rate = offered
	}
	return d
}

// offers is how many items a second a source that waits could put in, with a little to grow; 0 means any number.
func (n *node) offers() float64 {
	const growth = 1.25
	switch s := n.cost.Seconds(); {
	case n.pass != nil && n.queued() == 0:
		return n.rate*growth + 1
	case n.pass != nil, !n.options.Waits, s == 0:
		return 0
	default:
		// The time of its calls is that of waiting for something to do: it is no cost.
		return float64(n.options.Limit) / s * growth
	}
}

// idle is the cost of a stage that the model is to leave out.
const idle = 1e-9

// share is how many items a stage gets for each one that comes in.
func (p *Pipeline) share(n *node) float64 {
	if n.source || p.inflow == 0 || n.flow == 0 {
		return 1
	}
	return n.flow / p.inflow
}
