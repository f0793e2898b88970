package group

import (
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/group/api"
)

// forget is for how long a silent client is shown.
const forget = time.Hour

// maxShown bounds the rows of a table, which is sent every two seconds; the methods give all of them.
const maxShown = 100

// Tables are what page and console show.
func (p *Part) Tables() []*pluginpb.Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store == nil {
		return nil
	}
	p.clients.Prune(p.now(), forget)
	members := &pluginpb.Table{Name: "members", Columns: api.MemberColumns()}
	for _, g := range p.store.Groups() {
		if len(members.Rows) >= maxShown {
			break // also of the work: hosts that ask wait for it
		}
		for _, row := range shown(g).Rows() {
			if len(members.Rows) < maxShown {
				members.Rows = append(members.Rows, &pluginpb.Row{Cells: row})
			}
		}
	}
	clients := &pluginpb.Table{Name: "clients", Columns: api.ClientColumns()}
	all := p.clients.List(p.now()) // the slowest first
	for _, c := range all[:min(len(all), maxShown)] {
		clients.Rows = append(clients.Rows, &pluginpb.Row{Cells: shownClient(c).Cells()})
	}
	return []*pluginpb.Table{members, clients}
}

func shownClient(s Status) api.Client {
	c := api.Client{
		Host: s.Host, Applied: s.Applied.String(), Confirmed: s.Behind, Lapsed: s.Lapsed,
		Sent: s.Outcomes.Sent(), Dropped: s.Outcomes.Dropped(), Outcomes: map[string]uint64{},
	}
	for i, name := range OutcomeNames() {
		if i > 0 && s.Outcomes[i] > 0 {
			c.Outcomes[name] = s.Outcomes[i]
		}
	}
	return c
}

// Gauges are the metrics.
func (p *Part) Gauges() []*pluginpb.Gauge {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store == nil {
		return nil
	}
	var members, down, behind, lapsed float64
	var outcomes Outcomes
	groups := p.store.Groups()
	for _, g := range groups {
		for _, m := range g.Members {
			members++
			if m.State == Down {
				down++
			}
		}
	}
	clients := p.clients.List(p.now())
	for _, c := range clients {
		for i, n := range c.Outcomes {
			outcomes[i] += n
		}
		if c.Applied.Compare(p.store.Version()) < 0 {
			behind++
		}
		if c.Lapsed {
			lapsed++
		}
	}
	leads := 0.0
	if p.store.Leads() {
		leads = 1
	}
	all := []*pluginpb.Gauge{
		{Name: "groups", Help: "interface groups", Value: float64(len(groups))},
		{Name: "group_members", Help: "members of interface groups", Value: members},
		{Name: "group_members_down", Help: "members that are unhealthy or attached nowhere", Value: down},
		{Name: "group_epoch", Help: "epoch of the groups' latest change", Value: float64(p.store.Version().Epoch)},
		{Name: "group_leads", Help: "1 while this box leads the groups", Value: leads},
		{Name: "group_clients", Help: "hosts that follow the groups", Value: float64(len(clients))},
		{Name: "group_clients_behind", Help: "hosts that have not applied the latest change", Value: behind},
		{Name: "group_clients_lapsed", Help: "hosts whose lease has run out", Value: lapsed},
	}
	for i, name := range OutcomeNames() {
		all = append(all, &pluginpb.Gauge{
			Name: "group_packets_total", Help: "packets to groups on all hosts, by what became of them", Value: float64(outcomes[i]),
			Labels: map[string]string{"outcome": name}, Counter: true,
		})
	}
	return all
}

// Health is bad when another control plane leads groups that this one has too. A box that never led stands by.
func (p *Part) Health() (pluginpb.Event_Health, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store != nil && p.store.Fenced() && p.store.Version() != (Version{}) {
		return pluginpb.Event_DEGRADED, fmt.Sprintf("groups: host %s follows %s of another control plane, this box is at %s; "+
			"to lead from here: ratchetctl dataplane group promote", p.fencer, p.store.seen, p.store.Version())
	}
	return pluginpb.Event_OK, ""
}
