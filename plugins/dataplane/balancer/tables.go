package balancer

import (
	"fmt"
	"strconv"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// maxRows bounds a table of `ratchetctl plugin show`; the commands of the dataplane show all.
const maxRows = 100

// Tables are what the page and the console show.
func (p *Part) Tables() []*pluginpb.Table {
	r := p.running()
	if r == nil {
		return nil
	}
	vips := &pluginpb.Table{Name: "vips", Columns: []string{"VIP", "ADDRESS", "PROTOCOL", "PORTS", "SERVING", "PACKETS", "NEW FLOWS", "REFUSED"}}
	for _, v := range r.showVIPs("") {
		if len(vips.Rows) == maxRows {
			break
		}
		serving := 0
		for _, b := range v.Backends {
			if b.State == "serving" || b.State == "starting" {
				serving++
			}
		}
		vips.Rows = append(vips.Rows, row(v.Name, v.Address, v.Protocol, v.Ports, fmt.Sprintf("%d of %d", serving, len(v.Backends)),
			number(v.Packets), number(v.NewFlows), number(v.Refused)))
	}
	drops := &pluginpb.Table{Name: "drops", Columns: []string{"REASON", "DROPPED", "PACKETS"}}
	for _, d := range r.showDrops().Reasons {
		drops.Rows = append(drops.Rows, row(d.Reason, strconv.FormatBool(d.Dropped), number(d.Packets)))
	}
	return []*pluginpb.Table{vips, drops}
}

func row(cells ...string) *pluginpb.Row { return &pluginpb.Row{Cells: cells} }

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// Gauges are the part's metrics.
func (p *Part) Gauges() []*pluginpb.Gauge {
	r := p.running()
	if r == nil {
		return nil
	}
	var out []*pluginpb.Gauge
	add := func(counter bool, name, help string, value float64, labels ...string) {
		g := &pluginpb.Gauge{Name: name, Help: help, Value: value, Counter: counter, Labels: map[string]string{}}
		for i := 0; i+1 < len(labels); i += 2 {
			g.Labels[labels[i]] = labels[i+1]
		}
		out = append(out, g)
	}
	for _, v := range r.showVIPs("") {
		add(true, "balancer_vip_packets_total", "packets to the VIP", float64(v.Packets), "vip", v.Name)
		add(true, "balancer_vip_bytes_total", "bytes to the VIP", float64(v.Bytes), "vip", v.Name)
		add(true, "balancer_vip_flows_total", "new connections to the VIP", float64(v.NewFlows), "vip", v.Name)
		add(true, "balancer_vip_refused_total", "new connections that no backend had room for", float64(v.Refused), "vip", v.Name)
		serving := 0
		for _, b := range v.Backends {
			if b.State == "serving" || b.State == "starting" {
				serving++
			}
		}
		add(false, "balancer_vip_backends_serving", "backends that take new connections", float64(serving), "vip", v.Name)
	}
	for _, d := range r.showDrops().Reasons {
		add(true, "balancer_reason_packets_total", "packets by what became of them, other than being forwarded", float64(d.Packets),
			"reason", d.Reason, "dropped", strconv.FormatBool(d.Dropped))
	}
	f := r.showFlows()
	add(false, "balancer_flows_capacity", "connections that the flow table holds", float64(f.Capacity))
	for _, s := range []struct {
		state string
		n     int
	}{{"opening", f.Opening}, {"tentative", f.Tentative}, {"established", f.Established}, {"brief", f.Brief}} {
		add(false, "balancer_flows", "connections in the flow table", float64(s.n), "state", s.state)
	}
	r.mu.Lock()
	m := r.meters
	effect50, effect99 := m.effect.quantile(0.5), m.effect.quantile(0.99)
	ring50, ring99 := m.ring.quantile(0.5), m.ring.quantile(0.99)
	r.mu.Unlock()
	add(false, "balancer_report_effect_seconds", "from a report's arrival until its credit is in force", effect50.Seconds(), "quantile", "0.5")
	add(false, "balancer_report_effect_seconds", "from a report's arrival until its credit is in force", effect99.Seconds(), "quantile", "0.99")
	add(false, "balancer_ring_effect_seconds", "from a change of a VIP until its ring is in force", ring50.Seconds(), "quantile", "0.5")
	add(false, "balancer_ring_effect_seconds", "from a change of a VIP until its ring is in force", ring99.Seconds(), "quantile", "0.99")
	add(true, "balancer_reports_total", "entries of capacity reports", float64(m.applied), "verdict", "applied")
	add(true, "balancer_reports_total", "entries of capacity reports", float64(m.refused), "verdict", "refused")
	add(true, "balancer_reports_total", "entries of capacity reports", float64(m.rebased), "verdict", "rebased")
	add(true, "balancer_reports_malformed_total", "datagrams of hosts that are no reports", float64(m.malformed))
	now := p.now()
	for _, peer := range r.showPeers(now) {
		up := 0.0
		if peer.InStep && peer.Alive {
			up = 1
		}
		add(false, "balancer_peer_in_step", "1 while a peer's flows are in this table", up, "peer", peer.Name)
		add(false, "balancer_peer_waiting_flows", "flows that a peer has not acknowledged", float64(peer.Waiting), "peer", peer.Name)
		add(false, "balancer_peer_lag_seconds", "from a flow's event to the peer's acknowledgement, median", peer.LagMilli/1000, "peer", peer.Name)
	}
	return out
}
