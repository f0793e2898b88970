package vni

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// Methods are what Invoke answers.
func Methods() []*pluginpb.Method {
	return []*pluginpb.Method{
		{Name: api.MethodList, Summary: "VNIs with who holds them and who stands by", ReadOnly: true},
		{Name: api.MethodPackets, Summary: "what the hosts delivered to VNIs and dropped, by reason", ReadOnly: true},
		{Name: api.MethodMove, Summary: "attach a VNI to another of its candidates"},
	}
}

// Invoke answers the management calls.
func (p *Part) Invoke(_ context.Context, method string, request []byte) ([]byte, error) {
	switch method {
	case api.MethodList:
		reply, err := p.list()
		if err != nil {
			return nil, err
		}
		return json.Marshal(reply)
	case api.MethodPackets:
		return json.Marshal(p.packets())
	case api.MethodMove:
		var r api.MoveRequest
		if err := json.Unmarshal(request, &r); err != nil {
			return nil, fmt.Errorf("read request: %w", err)
		}
		return []byte("{}"), p.move(r)
	}
	return nil, fmt.Errorf("unknown method %q", method)
}

func (p *Part) move(r api.MoveRequest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		return errStopped
	}
	err := p.engine.Move(clock(), r.ID, failover.Candidate{Host: r.Host, Instance: r.Instance})
	p.act()
	return err
}

func (p *Part) list() (api.ListReply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		return api.ListReply{}, errStopped
	}
	now := clock()
	reply := api.ListReply{Interfaces: []api.Interface{}}
	reply.Term, reply.Leads, reply.Majority = p.engine.Leads(now)
	for _, s := range p.engine.Status(now) {
		i := api.Interface{
			ID: s.Interface.ID, MAC: net.HardwareAddr(s.Interface.MAC[:]).String(), Addresses: s.Interface.Addresses,
			State: s.State, Epoch: s.Epoch, Underlay: s.Underlay,
		}
		for _, c := range s.Candidates {
			shown := api.Candidate{Host: c.Host, Instance: c.Instance, Healthy: c.Healthy, Eligible: c.Eligible, Failures: c.Failures}
			i.Candidates = append(i.Candidates, shown)
			if c.Candidate == s.Holder {
				i.Holder = &shown
			}
		}
		reply.Interfaces = append(reply.Interfaces, i)
	}
	return reply, nil
}

// counted takes what a host's fence has counted.
func (p *Part) counted(_ context.Context, host string, request []byte) ([]byte, error) {
	var all map[string]uint64
	if err := json.Unmarshal(request, &all); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	known := map[string]uint64{} // a host of another version may have more of them than this one shows
	for _, name := range outcomes {
		known[name] = all[name]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts != nil {
		p.counts[host] = known
	}
	return []byte("{}"), nil
}

func (p *Part) packets() api.PacketsReply {
	p.mu.Lock()
	defer p.mu.Unlock()
	reply := api.PacketsReply{Hosts: []api.Host{}}
	for _, name := range slices.Sorted(maps.Keys(p.counts)) {
		reply.Hosts = append(reply.Hosts, api.Host{Name: name, Packets: p.counts[name]})
	}
	return reply
}

// maxShown bounds the rows of a table, which is sent every two seconds; the methods give all of them.
const maxShown = 100

// Tables are what page and console show.
func (p *Part) Tables() []*pluginpb.Table {
	reply, err := p.list()
	if err != nil {
		return nil
	}
	t := &pluginpb.Table{Name: "vnis", Columns: api.Columns()}
	for _, i := range reply.Interfaces[:min(len(reply.Interfaces), maxShown)] {
		t.Rows = append(t.Rows, &pluginpb.Row{Cells: i.Row()})
	}
	counts := &pluginpb.Table{Name: "vni packets", Columns: api.PacketColumns()}
	for _, h := range p.packets().Hosts {
		for _, row := range h.Rows() {
			if len(counts.Rows) < maxShown {
				counts.Rows = append(counts.Rows, &pluginpb.Row{Cells: row})
			}
		}
	}
	return []*pluginpb.Table{t, counts}
}

// Gauges are the metrics.
func (p *Part) Gauges() []*pluginpb.Gauge {
	reply, err := p.list()
	if err != nil {
		return nil
	}
	var attached, alone, leads float64
	for _, i := range reply.Interfaces {
		if i.State == "attached" {
			attached++
		}
		if !i.Covered() {
			alone++
		}
	}
	if reply.Leads && reply.Majority {
		leads = 1
	}
	p.mu.Lock()
	moves := float64(p.moves)
	packets := map[string]uint64{}
	for _, counts := range p.counts {
		for name, n := range counts {
			packets[name] += n
		}
	}
	p.mu.Unlock()
	all := []*pluginpb.Gauge{
		{Name: "vnis", Help: "virtual network interfaces", Value: float64(len(reply.Interfaces))},
		{Name: "vnis_attached", Help: "VNIs that an instance holds", Value: attached},
		{Name: "vnis_without_standby", Help: "VNIs that nobody could take over", Value: alone},
		{Name: "vni_moves_total", Help: "attachments since the plugin started", Value: moves, Counter: true},
		{Name: "vni_leads", Help: "1 while this box decides and a majority of the hosts follows it", Value: leads},
	}
	for _, name := range outcomes {
		all = append(all, &pluginpb.Gauge{
			Name: "vni_packets_total", Help: "packets of VNIs on all hosts, by what became of them", Counter: true,
			Labels: map[string]string{"outcome": name}, Value: float64(packets[name]),
		})
	}
	return all
}

// Health is bad while a VNI is down, or may not move.
func (p *Part) Health() (pluginpb.Event_Health, string) {
	p.mu.Lock()
	store, election := p.err, p.election()
	p.mu.Unlock()
	switch {
	case store != nil:
		return pluginpb.Event_DEGRADED, fmt.Sprintf("VNIs cannot move: %v", store)
	case election != "":
		return pluginpb.Event_DEGRADED, election
	}
	reply, err := p.list()
	if err != nil || !reply.Leads {
		return pluginpb.Event_OK, "" // another box decides, and says so
	}
	down := 0
	for _, i := range reply.Interfaces {
		if i.State != "attached" {
			down++
		}
	}
	if down > 0 {
		return pluginpb.Event_DEGRADED, fmt.Sprintf("%d of %d VNIs are not attached: see ratchetctl dataplane vni list", down, len(reply.Interfaces))
	}
	return pluginpb.Event_OK, ""
}

// election says why no box may decide; mu is held.
func (p *Part) election() string {
	if p.engine == nil || p.options.Peers == 0 {
		return ""
	}
	now := clock()
	all, waiting := p.engine.Votes(now)
	switch _, leads, majority := p.engine.Leads(now); {
	case leads && !majority:
		return fmt.Sprintf("not more than half of the %d hosts that vote follow this box: another one decides, or VNIs stop (plugins.dataplane.vnis.voters)", all)
	case !leads && waiting > 0 && waiting <= all/2:
		return fmt.Sprintf("%d of the %d hosts that vote wait, with stopped VNIs, for a box that decides; this one takes over only when more than "+
			"half of them wait (plugins.dataplane.vnis.voters)", waiting, all)
	}
	return ""
}
