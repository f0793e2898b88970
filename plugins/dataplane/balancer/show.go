package balancer

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
)

// health is OK, or what is wrong.
func (r *run) health() (pluginpb.Event_Health, string) {
	now := r.part.now()
	var all []string
	r.mu.Lock()
	for _, p := range []string{r.problems.link, r.problems.table, r.problems.ring, r.problems.hosts, r.problems.route} {
		if p != "" {
			all = append(all, p)
		}
	}
	var empty []string
	for _, v := range r.vips {
		serving := false
		for i := range v.members {
			s := v.members[i].state
			serving = serving || s.Serving && s.Weight > 0
		}
		if !serving {
			empty = append(empty, v.Name)
		}
	}
	r.mu.Unlock()
	if len(empty) > 0 {
		all = append(all, "no backend serves "+few(empty))
	}
	r.announcing.mu.Lock()
	if p := r.announcing.problem; p != "" {
		all = append(all, p)
	}
	if s := r.announcing.speaker; s != nil {
		for _, n := range s.Sessions() {
			if !n.Established && n.Problem != "" {
				all = append(all, fmt.Sprintf("BGP neighbour %v: %s", n.Neighbour.Address, n.Problem))
			}
		}
	}
	r.announcing.mu.Unlock()
	for _, p := range r.showPeers(now) {
		if p.Problem != "" {
			all = append(all, "peer "+p.Name+": "+p.Problem)
		}
	}
	if len(all) == 0 {
		return pluginpb.Event_OK, ""
	}
	return pluginpb.Event_DEGRADED, strings.Join(all, "; ")
}

// few names some, and how many there are.
func few(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
}

// showVIPs lists VIPs; all when name is "".
func (r *run) showVIPs(name string) []api.VIP {
	counters := map[table.VIPID]table.VIPCounter{}
	for _, c := range r.table.Counters().VIPs {
		counters[c.ID] = c
	}
	now := r.part.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []api.VIP
	for _, v := range r.vips {
		if name != "" && v.Name != name {
			continue
		}
		c := counters[v.id]
		a := api.VIP{
			Name: v.Name, Address: v.Key.Address.String(), Protocol: v.Key.Protocol.String(), Ports: portsOf(v.Key),
			Packets: c.Packets, Bytes: c.Bytes, NewFlows: c.NewFlows, Refused: c.Refused,
		}
		for i := range v.members {
			a.Backends = append(a.Backends, r.showBackend(v, &v.members[i], now))
		}
		out = append(out, a)
	}
	return out
}

func portsOf(v table.VIP) string {
	switch {
	case v.First == 0 && v.Last == 65535:
		return "all"
	case v.First == v.Last:
		return strconv.Itoa(int(v.First))
	default:
		return fmt.Sprintf("%d-%d", v.First, v.Last)
	}
}

// showBackend describes a member. r.mu is held.
func (r *run) showBackend(v *vip, m *member, now time.Duration) api.Backend {
	a := api.Backend{Name: m.name, Weight: r.weightOf(v, m), Limit: -1, Left: -1, ReportAge: -1}
	if m.address.IsValid() {
		a.Address = m.address.String()
	}
	credit := r.table.CreditOf(m.id)
	a.Dispatched = credit.Dispatched
	if age, heard := m.account.Age(now); heard && m.reporting(now) {
		a.ReportAge, a.Limit, a.Left = age.Seconds(), int64(m.account.Limit()), credit.Left
	} else if m.limit != 0 {
		a.Limit, a.Left = int64(m.limit), credit.Left
	}
	switch {
	case !m.address.IsValid():
		a.State, a.Why = "unknown", "the host's agent has not joined yet"
	case a.Weight == 0:
		a.State = "drained"
	case !m.state.Serving:
		a.State, a.Why = "down", r.monitor.State(m.target).Why
	case m.reporting(now) && !m.account.Fresh(now, m.ttl), !m.reporting(now) && m.key.host != "" && !m.checked:
		a.State, a.Why = "stale", "no capacity report within "+m.ttl.String()
	case !m.state.Room, m.reporting(now) && credit.Left <= 0:
		a.State = "full"
	case m.state.Step(now, v.SlowStart) < 8:
		a.State = "starting"
	default:
		a.State = "serving"
	}
	return a
}

// showFlows counts the flow table.
func (r *run) showFlows() api.FlowsReply {
	out := api.FlowsReply{Capacity: r.table.Lines() * 8}
	states := map[table.BackendID]*[4]int{}
	for f := range r.table.Flows() {
		s := states[f.Backend]
		if s == nil {
			s = new([4]int)
			states[f.Backend] = s
		}
		s[f.State&3]++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.backends {
		if s := states[b.id]; s != nil && b.id != 0 {
			name := b.key.host
			if name == "" {
				name = b.address.String()
			}
			out.Backends = append(out.Backends, api.FlowBackend{
				Name: name, Component: b.key.component, HalfOpen: s[table.Opening] + s[table.Tentative], Established: s[table.Established], Brief: s[table.Brief],
			})
		}
	}
	for _, s := range states {
		out.Opening += s[table.Opening]
		out.Tentative += s[table.Tentative]
		out.Established += s[table.Established]
		out.Brief += s[table.Brief]
	}
	slices.SortFunc(out.Backends, func(a, b api.FlowBackend) int {
		return cmp.Or(strings.Compare(a.Component, b.Component), strings.Compare(a.Name, b.Name))
	})
	return out
}

// showDrops lists counters that are not zero.
func (r *run) showDrops() api.DropsReply {
	var out api.DropsReply
	for reason, n := range r.table.Counters().Reasons {
		out.Reasons = append(out.Reasons, api.Reason{Reason: reason.String(), Dropped: reason.Dropped(), Packets: n})
	}
	slices.SortFunc(out.Reasons, func(a, b api.Reason) int {
		return cmp.Or(-cmp.Compare(a.Packets, b.Packets), strings.Compare(a.Reason, b.Reason))
	})
	return out
}

// showPeers lists the other balancers.
func (r *run) showPeers(now time.Duration) []api.Peer {
	var out []api.Peer
	r.peers.events.Lock()
	for _, p := range r.peers.all {
		p.mu.Lock()
		out = append(out, api.Peer{
			Name: p.Name, Alive: p.heard != 0 && now-p.heard < time.Second, InStep: p.passed != 0 && p.seen == p.theirs,
			Sent: p.sent, Taken: p.taken, Waiting: p.window.Waiting(), LagMilli: p.lag.quantile(0.5).Seconds() * 1000, Problem: p.problem,
		})
		p.mu.Unlock()
	}
	r.peers.events.Unlock()
	slices.SortFunc(out, func(a, b api.Peer) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// active names who answers for the VIPs, as this box calls it.
func (r *run) active(now time.Duration) string {
	who := ""
	r.announcing.mu.Lock()
	if n := r.announcing.node; n != nil {
		who = n.Active(now)
	}
	r.announcing.mu.Unlock()
	if who == r.name() {
		return "self"
	}
	r.peers.events.Lock()
	defer r.peers.events.Unlock()
	for _, p := range r.peers.all {
		p.mu.Lock()
		calls := p.calls
		p.mu.Unlock()
		if who != "" && calls == who {
			return p.Name
		}
	}
	return ""
}
