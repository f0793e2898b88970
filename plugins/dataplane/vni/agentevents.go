package vni

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/port"
)

// beat tells every box how this host is.
func (a *Agent) beat(ctx context.Context, g *errgroup.Group) {
	for i, c := range a.clients {
		select {
		case a.slots[i] <- struct{}{}:
		default:
			continue // a box that does not answer is not asked more often than it can
		}
		// The lease counts from before the beat is made.
		sent := now()
		b := a.follower.Beat(sent, i)
		b.Incarnation, b.Underlay = a.incarnation, a.underlay
		payload := appendBeat(nil, b)
		g.Go(func() error {
			defer func() { <-a.slots[i] }()
			ctx, cancel := context.WithTimeout(ctx, inFlight*beatEvery)
			defer cancel()
			answer, err := c.Exchange(ctx, control.KindBeat, payload)
			if err != nil {
				return nil
			}
			if r, err := parseReply(answer); err == nil {
				a.offer(replied{box: i, sent: sent, Reply: r})
			}
			return nil
		})
	}
}

// count tells every box what the fence has counted, if that has changed. A box that misses it hears the next one.
func (a *Agent) count(ctx context.Context, g *errgroup.Group) {
	counts, err := a.fence.Counters()
	if err != nil || maps.Equal(counts, a.counted) {
		return
	}
	a.counted = counts
	for _, c := range a.clients {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, pullTimeout)
			defer cancel()
			if err := c.Call(ctx, methodCount, counts, nil); err != nil {
				a.log.Debug("counters not reported", "err", err)
			}
			return nil
		})
	}
}

func (a *Agent) replied(ctx context.Context, g *errgroup.Group, r replied) {
	until, pull := a.follower.Reply(now(), r.sent, r.box, r.Reply)
	if until > 0 {
		a.fence.Renew(uint64(until))
	}
	if !pull || a.pulling {
		return
	}
	a.pulling = true
	known := a.follower.Known()
	g.Go(func() error {
		var p pulled
		call, cancel := context.WithTimeout(ctx, pullTimeout)
		defer cancel()
		p.err = a.clients[r.box].Call(call, methodPull, pullRequest{Known: known}, &p.Assignment)
		select {
		case a.events <- p:
		case <-ctx.Done():
		}
		return nil
	})
}

// pulled carries out an assignment.
func (a *Agent) pulled(ctx context.Context, g *errgroup.Group, p pulled) {
	a.pulling = false
	if p.err != nil {
		a.log.Debug("assignment not pulled; the next beat's answer asks again", "err", p.err)
		return
	}
	if !a.follower.Newer(p.Assignment) {
		return
	}
	if err := a.learn(ctx, g, p.Entries); err != nil {
		a.log.Warn("assignment not carried out; it is tried again", "err", err)
		return
	}
	steps, ok := a.follower.Assign(now(), p.Assignment)
	if !ok {
		return
	}
	for _, s := range steps {
		err := a.step(s)
		a.follower.Done(s, err == nil)
		if err == nil {
			continue
		}
		a.log.Warn("attachment not changed", "vni", s.Interface, "instance", s.Instance, "attach", s.Attach, "err", err)
		if !s.Attach {
			return // not applied: this host gets no lease until it has let go
		}
	}
	a.follower.Applied(p.Assignment)
	a.beat(ctx, g)
}

// learn tells the fence of all VNIs that have an end here.
func (a *Agent) learn(ctx context.Context, g *errgroup.Group, entries []failover.Entry) error {
	listed := map[uint32]bool{}
	for _, e := range entries {
		a.follow(ctx, g, e)
		if listed[e.Interface] {
			continue
		}
		listed[e.Interface] = true
		if err := a.fence.Know(e.Interface, e.MAC, e.Addresses); err != nil {
			return fmt.Errorf("VNI %d: %w", e.Interface, err)
		}
		a.known[e.Interface] = true
	}
	for k, p := range a.ports {
		if !listed[k.vni] {
			p.entry = failover.Entry{} // not plugged in any more
		}
	}
	for id := range a.known {
		if !listed[id] {
			if err := a.fence.Unknow(id); err != nil {
				return fmt.Errorf("VNI %d: %w", id, err)
			}
			delete(a.known, id)
		}
	}
	return nil
}

// step attaches or detaches.
func (a *Agent) step(s failover.Step) error {
	if !s.Attach {
		return a.fence.Detach(s.Interface)
	}
	p := a.ports[portKey{s.Interface, s.Instance}]
	if p == nil || p.link == 0 {
		return errors.New("it has no port here: add it to the agent's attachments")
	}
	h := Holding{Link: p.link, Out: a.uplink, Epoch: s.Epoch, MAC: s.MAC, How: p.how(), Plain: p.Plain}
	if err := a.fence.Attach(s.Interface, h); err != nil {
		return err
	}
	a.log.Info("VNI attached", "vni", s.Interface, "instance", s.Instance, "epoch", s.Epoch)
	if a.wire != nil {
		for _, address := range s.Addresses {
			if err := a.wire.Send(port.Announcement(s.MAC, address)); err != nil {
				a.log.Warn("address not announced", "address", address, "err", err)
			}
		}
	}
	return nil
}
